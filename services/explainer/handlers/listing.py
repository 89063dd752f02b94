"""Which models and versions are served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.explainer.handlers.versions import check_known
from services.explainer.ports import Classifier, ModelRepository, ServedVersion


@dataclass(frozen=True)
class ListedVersion:
    """A version with how it stands."""

    served: ServedVersion
    is_champion: bool
    is_ready: bool
    is_shadow: bool


async def list_versions(classifier: Classifier, repository: ModelRepository, name: str) -> list[ListedVersion]:
    """Versions of the model `name`, or of every model when it is empty, by name and version.

    Raises
    ------
    NotFound
        When `name` is given and there is no such model.
    """
    names = repository.names()
    if name:
        check_known(repository, name)
    versions = [version for each in ([name] if name else names) for version in repository.versions(each)]
    ready = await asyncio.gather(*(classifier.is_ready(version.name, version.version) for version in versions))
    champions = {each: repository.champion(each) for each in names}
    shadows = {each: repository.shadow(each).version for each in names}
    return [
        ListedVersion(
            version,
            champions[version.name] == version.version,
            is_ready,
            shadows[version.name] == version.version,
        )
        for version, is_ready in zip(versions, ready, strict=True)
    ]

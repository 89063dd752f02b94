"""Which models and versions are served."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.runtime.errors import ServiceError
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
    Unavailable
        When `name` is given and its champion or shadow can't be read; among all models such a one is left out.
    """
    if name:
        check_known(repository, name)
    champions, shadows = {}, {}
    for each in [name] if name else repository.names():
        try:
            champions[each], shadows[each] = repository.champion(each), repository.shadow(each).version
        except ServiceError:  # the repository has logged it
            if name:
                raise
    versions = [version for each in champions for version in repository.versions(each)]
    ready = await asyncio.gather(*(classifier.is_ready(version.name, version.version) for version in versions))
    return [
        ListedVersion(
            version,
            champions[version.name] == version.version,
            is_ready,
            shadows[version.name] == version.version,
        )
        for version, is_ready in zip(versions, ready, strict=True)
    ]

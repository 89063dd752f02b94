"""Go back to an older version's weights: they are published again as the next version, for numbers only grow."""

from __future__ import annotations

import asyncio

from services.common.runtime.audit_log import MAX_REASON_LENGTH
from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.common.vision.model_bundle import bundle_digest
from services.explainer.handlers.publishing import Publishing, check_champion
from services.explainer.handlers.versions import check_known
from services.explainer.ports import ModelRepository, Publication, ServedVersion


class RollingBack:
    """Chooses the version to repeat; `Publishing` does the rest."""

    def __init__(self, repository: ModelRepository, publishing: Publishing) -> None:
        self._repository = repository
        self._publishing = publishing

    async def roll_back(
        self, name: str, version: int, expected_champion: int, reason: str, key: str, caller: str = ""
    ) -> ServedVersion:
        """Serve the weights of `version` as the next version and make it the champion; verified as any publication.

        `version` 0 means the newest before the champion that has other weights. The same `key` again returns the version that it
        made.

        Raises
        ------
        InvalidInput
            At the field at fault, also when `version` has the champion's own weights.
        NotFound
            When there is no such model or version, or none before the champion has other weights.
        Conflict
            When the champion is not `expected_champion`.
        WrongState
            When the version's files are no longer those that were published.
        AlreadyExists, Unavailable
            As for `Publishing.publish_folder`.
        """
        _check(name, version, expected_champion, reason, key)
        check_known(self._repository, name)
        champion = self._repository.champion(name)
        is_made = any(made.publication_key == key for made in self._repository.versions(name))
        # What a key has made is found by what it was asked for, and then the champion was another one.
        if not is_made:
            check_champion(name, champion, expected_champion)
        target = self._find_target(name, version, expected_champion)
        folder = self._repository.bundle(name, target.version)
        if await asyncio.to_thread(bundle_digest, folder) != target.digest:
            raise WrongState(f"the files of version {target.version} are no longer those that were published")
        publication = Publication(key, caller, reason, repeats_version=target.version)
        return await self._publishing.publish_folder(name, folder, expected_champion, publication)

    def _find_target(self, name: str, version: int, champion: int) -> ServedVersion:
        """The version to repeat, seen from `champion`: the same however far the pointer has moved since."""
        versions = {
            each.version: each
            for each in self._repository.versions(name)
            if each.version <= champion and not each.as_shadow
        }
        digest = versions[champion].digest if champion in versions else ""
        if version:
            if version not in versions:
                raise NotFound(
                    f"version: '{name}' has no version {version} that was published and can be read; "
                    f"it has {', '.join(map(str, versions)) or 'none'}"
                )
            if versions[version].digest == digest:
                raise InvalidInput("version", f"version {version} has the weights of the champion, version {champion}")
            return versions[version]
        others = [each for each in versions.values() if each.version < champion and each.digest != digest]
        if not others:
            raise NotFound(f"version: no version of '{name}' before {champion} has other weights")
        return others[-1]


def _check(name: str, version: int, expected_champion: int, reason: str, key: str) -> None:
    if not name:
        raise InvalidInput("name", "empty; expected the name of a served model")
    if version < 0:
        raise InvalidInput("version", f"expected 0 (the one before) or a version from 1, got {version}")
    if expected_champion < 1:
        raise InvalidInput("expected_champion_version", f"expected the champion's version, got {expected_champion}")
    if not reason.strip():
        raise InvalidInput("reason", "empty; expected why, in words")
    if len(reason) > MAX_REASON_LENGTH:
        raise InvalidInput("reason", f"longer than {MAX_REASON_LENGTH} characters")
    if not key:
        raise InvalidInput("idempotency_key", "empty; expected the caller's name for this rollback")

"""Choose a model's shadow, or end it: under the publishing lock, and told in the audit log first."""

from __future__ import annotations

from services.common.runtime.errors import InvalidInput, NotFound, Unavailable
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.uncancelled import run_in_thread, run_to_end
from services.explainer.handlers.versions import check_known
from services.explainer.ports import Classifier, ModelRepository, ServedVersion


class SettingShadow:
    """Moves the shadow pointer."""

    def __init__(
        self, classifier: Classifier, repository: ModelRepository, announcing: Announcing, lock_timeout_s: float
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._announcing = announcing
        self._lock_timeout_s = lock_timeout_s

    async def set(self, name: str, version: int, caller: str = "") -> ServedVersion | None:
        """Make `version` the shadow of the model; 0 ends the one that there is. What is so already is not told again.

        A caller that goes away does not stop it: what the log was told is done.

        Raises
        ------
        InvalidInput
            At `name` or `version`, also when it is the champion.
        NotFound
            When there is no such model, or no such version that was verified.
        Unavailable
            When the version does not answer, the audit log can't be written, or a publication of the model takes too long.
        """
        if not name:
            raise InvalidInput("name", "empty; expected the name of a served model")
        if version < 0:
            raise InvalidInput("version", f"expected 0 (no shadow) or a version from 1, got {version}")
        check_known(self._repository, name)
        return await run_to_end(self._set(name, version, caller))

    async def _set(self, name: str, version: int, caller: str) -> ServedVersion | None:
        async with self._repository.publishing(name, self._lock_timeout_s):
            pointer = self._repository.shadow(name)
            served = await self._find(name, version) if version else None
            if version != pointer.version:
                subject = served or self._repository.version(name, pointer.version)
                await run_in_thread(self._announcing.announce_shadow, name, subject, pointer, version, caller)
                await run_in_thread(self._repository.set_shadow, name, pointer.moved_to(version))
            return served

    async def _find(self, name: str, version: int) -> ServedVersion:
        champion = self._repository.champion(name)
        if version == champion:
            raise InvalidInput("version", f"version {version} is the champion of '{name}'")
        served = self._repository.version(name, version)
        if served is None or not self._repository.shadow(name).is_verified(version, champion):
            raise NotFound(f"version: '{name}' has no version {version} that was verified and can be read")
        if not await self._classifier.is_ready(name, version):
            raise Unavailable(f"version {version} of '{name}' does not answer; try again")
        return served

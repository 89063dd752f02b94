"""Bring this replica's inference server to what the repository holds: a fresh one knows nothing, and no other replica tells it what was published."""

from __future__ import annotations

import asyncio
import logging

from services.common.runtime.errors import DeadlineExceeded, ServiceError, Unavailable
from services.common.runtime.readiness import Readiness
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

log = logging.getLogger(__name__)

_OUTAGES = (Unavailable, DeadlineExceeded)


class Reconciling:
    """Loads every verified version that is not ready, and tells whether this replica can answer for the models that there are."""

    def __init__(
        self, classifier: Classifier, repository: ModelRepository, versions: LiveVersions, readiness: Readiness
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._versions = versions
        self._readiness = readiness
        self._refused: set[tuple[str, int]] = set()

    async def keep(self, interval_s: float) -> None:
        """Reconcile for ever. A server that is away is tried again; the callers see UNAVAILABLE meanwhile."""
        while True:
            try:
                for served in await self.reconcile():
                    log.info("loaded", extra={"model": served.name, "version": served.version})
            except Exception:
                # Nobody else brings a restarted server back, so no fault may end this loop.
                log.exception("inference server not reconciled")
            await asyncio.sleep(interval_s)

    async def reconcile(self) -> list[ServedVersion]:
        """Load what is missing, champions first, then shadows, then the newest; returns those that were loaded.

        What can't be loaded is logged and left for the next round: it must not keep the others from being served.
        """
        champions, others = [], []
        for name in self._repository.names():
            try:
                champion, more = await self._find_missing(name)
            except Exception:
                log.exception("model not reconciled", extra={"model": name})
            else:
                champions += champion
                others += more
        await self._tell_ready(champions + others)
        loaded = await self._load(champions)
        for served in loaded:
            self._versions.see_champion(served.name, served.version)
        # Old versions may take minutes; callers of the champions don't wait for them.
        await self._tell_ready([each for each in champions + others if each not in loaded])
        return loaded + await self._load(sorted(others, key=self._is_no_shadow))

    async def _find_missing(self, name: str) -> tuple[list[ServedVersion], list[ServedVersion]]:
        """Of a model's versions those to be loaded, newest first: its champion, and the others.

        A version above the champion that is no shadow is being published: that is its publisher's to load.
        """
        champion, shadow = self._repository.champion(name), self._repository.shadow(name)
        if not champion:
            return [], []
        verified = [
            each for each in reversed(self._repository.versions(name)) if shadow.is_verified(each.version, champion)
        ]
        ready = await asyncio.gather(*(self._classifier.is_ready(name, each.version) for each in verified))
        champions, others = [], []
        for version, is_ready in zip(verified, ready, strict=True):
            is_champion = version.version == champion
            if not is_ready:
                (champions if is_champion else others).append(version)
            elif is_champion:
                self._versions.see_champion(name, champion)
        return champions, others

    def _is_no_shadow(self, served: ServedVersion) -> bool:
        return served.version != self._repository.shadow(served.name).version

    async def _load(self, missing: list[ServedVersion]) -> list[ServedVersion]:
        loaded = []
        for served in missing:
            told = {"model": served.name, "version": served.version}
            self._refused.discard((served.name, served.version))
            try:
                await self._classifier.load(served, self._repository.bundle(served.name, served.version))
                loaded.append(served)
            except _OUTAGES as error:
                log.info("version not reconciled", extra=told | {"kind": error.kind})
            except Exception as error:
                self._refused.add((served.name, served.version))
                if isinstance(error, ServiceError):
                    log.info("version not reconciled", extra=told | {"kind": error.kind})
                else:
                    log.exception("version not reconciled", extra=told)
        return loaded

    async def _tell_ready(self, missing: list[ServedVersion]) -> None:
        """Not ready is who answers a model with a version that is missing here. One that the server refuses to load another replica's refuses too, so it counts for nothing."""
        missed = {(each.name, each.version) for each in missing} - self._refused
        await self._readiness.tell(not any(self._versions.champion(name) == version for name, version in missed))

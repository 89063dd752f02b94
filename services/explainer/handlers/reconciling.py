"""Bring this replica's inference server to what the repository holds: a fresh one knows nothing, and no other replica tells it what was published."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeGuard

from services.common.runtime.errors import ServiceError, Unavailable
from services.common.runtime.readiness import Readiness
from services.explainer.handlers.uncancelled import run_in_thread
from services.explainer.handlers.verifying import AnswersDiffer, Verifying, find_expected
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Classifier, LoadLost, ModelRepository, ServedVersion

log = logging.getLogger(__name__)

EXCUSED_S = 300.0
"""For so long a replica whose server refuses a champion leaves callers to the others, whose servers may take it. Then it may be the version, and the other models need this replica too."""
LONGEST_PAUSE_S = 60.0
"""A version that the server refuses, or whose process dies or takes too long, is tried again after a second, two, four, and at last each minute: a try costs an import of everything, and a line in the log."""


@dataclass
class _Missing:
    """What the server lacks, newest first, and for how many models it has the version that it would answer with."""

    champions: list[ServedVersion] = field(default_factory=list)
    others: list[ServedVersion] = field(default_factory=list)
    answering_count: int = 0


@dataclass
class _Refusal:
    """Since when a version does not come to life in the server, by our clock, how often it was tried, and when it is tried again."""

    since_s: float
    count: int = 0
    pause_s: float = 1.0
    again_s: float = 0.0

    def count_one(self, now_s: float) -> None:
        """Once more."""
        self.count += 1
        self.again_s = now_s + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_PAUSE_S)


class Reconciling:
    """Loads every published version that is not ready and verifies it here, lets go what no folder has any more, and tells whether this replica can answer for the models that there are."""

    def __init__(
        self,
        classifier: Classifier,
        repository: ModelRepository,
        versions: LiveVersions,
        verifying: Verifying,
        readiness: Readiness,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._versions = versions
        self._verifying = verifying
        self._readiness = readiness
        self._clock = clock
        self._refusals: dict[tuple[str, int], _Refusal] = {}
        self._was_ready = False

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
        """Load the champions that are missing, and one other version, shadows first, then the newest; returns those that were loaded.

        One other only: old versions may take minutes, in which a champion may change. What can't be loaded is logged and left for a later round: it must not keep
        the others from being served.
        """
        missing = await self._find_missing()
        self._forget_refusals_but_of(missing)
        await self._tell_ready(missing)
        loaded = await self._load(filter(self._is_due, missing.champions))
        for served in loaded:
            self._versions.see_champion(served.name, served.version)
        await self._tell_ready(missing, loaded)
        loaded += await self._load(sorted(filter(self._is_due, missing.others), key=self._turn)[:1])
        await self._unload_strays()
        return loaded

    async def _find_missing(self) -> _Missing:
        names, missing = self._repository.names(), _Missing()
        found = await asyncio.gather(*map(self._find_missing_of, names), return_exceptions=True)
        for name, each in zip(names, found, strict=True):
            if isinstance(each, _Missing):
                missing.champions += each.champions
                missing.others += each.others
                missing.answering_count += each.answering_count
            elif isinstance(each, ServiceError):  # the repository has told what is wrong, once
                log.info("model not reconciled", extra={"model": name, "kind": each.kind})
            else:
                log.error("model not reconciled", extra={"model": name}, exc_info=each)
        return missing

    async def _find_missing_of(self, name: str) -> _Missing:
        """Of one model. A version above the champion that is no shadow is being published: that is its publisher's to load."""
        champion, shadow, missing = self._repository.champion(name), self._repository.shadow(name), _Missing()
        verified = [
            each for each in reversed(self._repository.versions(name)) if shadow.is_verified(each.version, champion)
        ]
        ready = await asyncio.gather(*(self._classifier.is_ready(name, each.version) for each in verified))
        here = {
            each.version
            for each, is_ready in zip(verified, ready, strict=True)
            # What a service before this one had loaded may be ready, and is verified once more.
            if is_ready and self._verifying.was_verified(name, each.version)
        }
        for each in verified:
            if each.version not in here:
                (missing.champions if each.version == champion else missing.others).append(each)
        if champion in here:
            self._versions.see_champion(name, champion)
        missing.answering_count = int(self._versions.champion(name) in here)
        return missing

    def _forget_refusals_but_of(self, missing: _Missing) -> None:
        """Else a version that came to life, and is lost again later, would be excused for what was long ago."""
        kept = {(served.name, served.version) for served in [*missing.champions, *missing.others]}
        self._refusals = {key: refusal for key, refusal in self._refusals.items() if key in kept}

    def _refusal(self, served: ServedVersion) -> _Refusal | None:
        return self._refusals.get((served.name, served.version))

    def _is_due(self, served: ServedVersion) -> bool:
        refusal = self._refusal(served)
        return refusal is None or self._clock() >= refusal.again_s

    def _turn(self, served: ServedVersion) -> tuple[int, bool]:
        """Those that were refused least often first, so that none blocks the others; among them shadows first."""
        refusal = self._refusal(served)
        is_shadow = served.version == self._repository.shadow(served.name).version
        return refusal.count if refusal else 0, not is_shadow

    async def _load(self, missing: Iterable[ServedVersion]) -> list[ServedVersion]:
        loaded = []
        for served in missing:
            told = {"model": served.name, "version": served.version}
            try:
                await self._bring_to_life(served)
                loaded.append(served)
            except Exception as error:
                if _is_outage(error):
                    log.info("version not reconciled", extra=told | {"kind": error.kind})
                    continue
                now_s = self._clock()
                self._refusals.setdefault((served.name, served.version), _Refusal(now_s)).count_one(now_s)
                if isinstance(error, ServiceError):
                    log.error("version refused", extra=told | {"kind": error.kind, "cause": error.message})
                else:
                    log.exception("version refused", extra=told)
        return loaded

    async def _bring_to_life(self, served: ServedVersion) -> None:
        folder = self._repository.bundle(served.name, served.version)
        if not await self._classifier.is_ready(served.name, served.version):
            await self._classifier.load(served, folder)
        try:
            await self._verifying.verify(served, await run_in_thread(find_expected, folder))
        except Exception as error:
            if not _is_outage(error):  # nobody may be answered by it, those who name its number neither
                with contextlib.suppress(ServiceError):
                    await self._classifier.unload(served.name, served.version)
            raise

    async def _tell_ready(self, missing: _Missing, loaded: Sequence[ServedVersion] = ()) -> None:
        """Not ready is who lacks a version that it would answer with, but not for a model that is new to one who was ready, nor for one whose version was refused for long, where anything else answers."""
        lacking = [
            each
            for each in [*missing.champions, *missing.others]
            if each not in loaded and self._versions.champion(each.name) == each.version
        ]
        if self._was_ready:
            lacking = [each for each in lacking if self._versions.has_seen(each.name)]
        is_ready = not lacking or (
            missing.answering_count + len(loaded) > 0 and all(self._is_excused(each) for each in lacking)
        )
        self._was_ready |= is_ready
        await self._readiness.tell(is_ready)

    def _is_excused(self, served: ServedVersion) -> bool:
        refusal = self._refusal(served)
        return refusal is not None and self._clock() - refusal.since_s >= EXCUSED_S

    async def _unload_strays(self) -> None:
        """Let go what was loaded here to be published, and was taken out by another replica after this one had been cut off. Versions up to the champion stay, whatever became of their folders."""
        loaded: list[tuple[str, int]] = []
        with contextlib.suppress(ServiceError):
            loaded = await self._classifier.loaded()
        for name in {name for name, _ in loaded}:
            with contextlib.suppress(ServiceError):
                champion, numbers = self._repository.champion(name), self._repository.numbers(name)
                for version in [version for model, version in loaded if model == name]:
                    if 0 < champion < version and version not in numbers:
                        log.warning("stray version unloaded", extra={"model": name, "version": version})
                        await self._classifier.unload(name, version)


def _is_outage(error: Exception) -> TypeGuard[Unavailable]:
    """Whether the server is away: it may be back in a second, and the version is not at fault."""
    return isinstance(error, Unavailable) and not isinstance(error, LoadLost | AnswersDiffer)

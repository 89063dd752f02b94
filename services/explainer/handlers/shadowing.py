"""Let a shadow version answer what the champion has answered, in the background, and count how they compare."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.runtime.errors import InvalidInput, NotFound, ServiceError
from services.explainer.domain.comparison import Comparison
from services.explainer.handlers.versions import LiveVersions, check_known
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0


@dataclass(frozen=True)
class ShadowOptions:
    """What the shadow may cost.

    share: the part of the champion's requests that is taken, 0 to 1. max_pixels: of pictures that wait, three bytes each. timeout_s: for one request.
    """

    share: float
    max_pixels: int
    timeout_s: float


@dataclass(frozen=True)
class _Waiting:
    """An answered request: pictures, and the champion's probabilities (picture, class)."""

    name: str
    comparison: Comparison
    pictures: Sequence[np.ndarray]
    probabilities: np.ndarray
    pixel_count: int


class Shadowing:
    """Compares one request after the other. Whatever happens here, the champion's caller has the answer already."""

    def __init__(
        self,
        classifier: Classifier,
        repository: ModelRepository,
        versions: LiveVersions,
        options: ShadowOptions,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._versions = versions
        self._draw = draw
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._waiting_pixels = 0
        self._comparisons: dict[str, Comparison] = {}
        self._logged_at: dict[str, float] = {}
        self.options = options

    def offer(
        self, served: ServedVersion, pictures: Sequence[np.ndarray], probabilities: Sequence[Sequence[float]]
    ) -> None:
        """Take an answered request for comparison, if the model has a shadow and `served` is its champion. Neither waits nor fails."""
        if self._draw() >= self.options.share:
            return
        try:
            self._offer(served, pictures, np.array(probabilities))
        except Exception:  # the caller's answer is ready, and must not be lost over this
            log.exception("nothing offered to the shadow", extra={"model": served.name})

    def find(self, name: str) -> tuple[ServedVersion | None, Comparison | None]:
        """A model's shadow, and the latest comparison of this process; None where there is none.

        Raises
        ------
        InvalidInput
            At `name`, when it is empty.
        NotFound
            When there is no such model.
        """
        if not name:
            raise InvalidInput("name", "empty; expected the name of a served model")
        check_known(self._repository, name)
        shadow = self._repository.shadow(name).version
        return self._repository.version(name, shadow) if shadow else None, self._comparisons.get(name)

    async def keep_comparing(self) -> None:
        """Compare for ever what was offered."""
        while True:
            waiting = await self._waiting.get()
            try:
                await self._compare(waiting)
            except ServiceError as error:
                self._fail(waiting, error.kind)
            except Exception as error:  # a shadow that is broken in whatever way is what one looks for here
                self._fail(waiting, type(error).__name__)
            finally:
                self._waiting_pixels -= waiting.pixel_count
            self._log(waiting)

    def _offer(self, served: ServedVersion, pictures: Sequence[np.ndarray], probabilities: np.ndarray) -> None:
        shadow = self._repository.shadow(served.name).version
        if not shadow or served.version != self._versions.champion(served.name):
            return
        comparison = self._find_comparison(served, shadow)
        pixel_count = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
        if self._waiting_pixels + pixel_count > self.options.max_pixels:
            comparison.dropped_count += len(pictures)
            return
        self._waiting_pixels += pixel_count
        self._waiting.put_nowait(_Waiting(served.name, comparison, pictures, probabilities, pixel_count))

    def _find_comparison(self, champion: ServedVersion, shadow: int) -> Comparison:
        found = self._comparisons.get(champion.name)
        if found is None or (found.champion_version, found.shadow_version) != (champion.version, shadow):
            found = self._comparisons[champion.name] = Comparison(champion.version, shadow, champion.labels)
        return found

    async def _compare(self, waiting: _Waiting) -> None:
        served = self._repository.version(waiting.name, waiting.comparison.shadow_version)
        if served is None:
            raise NotFound(f"version {waiting.comparison.shadow_version} of '{waiting.name}' can't be read")
        async with asyncio.timeout(self.options.timeout_s):
            pixel_values = await asyncio.to_thread(_preprocess, served, waiting.pictures)
            answers = await self._classifier.infer(served, pixel_values, self.options.timeout_s)
        waiting.comparison.add(waiting.probabilities, served.problem_type.read_probabilities(answers.logits))

    def _fail(self, waiting: _Waiting, kind: str) -> None:
        comparison = waiting.comparison
        if not comparison.failed_count:
            log.info(
                "shadow failed",
                extra={"model": waiting.name, "shadow_version": comparison.shadow_version, "kind": kind},
            )
        comparison.failed_count += len(waiting.pictures)

    def _log(self, waiting: _Waiting) -> None:
        """Say how it stands, for each model once in a while."""
        now, told = time.monotonic(), waiting.comparison
        if now - self._logged_at.get(waiting.name, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            return
        self._logged_at[waiting.name] = now
        log.info(
            "shadow compared",
            extra={
                "model": waiting.name,
                "champion_version": told.champion_version,
                "shadow_version": told.shadow_version,
                "picture_count": told.picture_count,
                "agreement": round(told.agreement, 4),
                "mean_difference": round(told.mean_difference, 6),
                "failed_count": told.failed_count,
                "dropped_count": told.dropped_count,
            },
        )


def _preprocess(served: ServedVersion, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([served.preprocessor(picture) for picture in pictures])

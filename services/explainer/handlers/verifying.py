"""Hold a served version's answers against what its bundle says: no caller shall be answered by weights that nobody compared.

Whoever publishes a version verifies it in his own inference server, every other replica in its own, after each load: another machine, image or GPU may
answer otherwise, and a file may have changed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from services.common.runtime.errors import InvalidInput, Unavailable, WrongState
from services.common.vision.golden import GOLDEN, GoldenRequest, read_golden, relative_difference, tell_difference
from services.common.vision.model_bundle import ModelBundle, load_bundle
from services.explainer.ports import Classifier, ServedVersion

GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a logit between Triton and this process or `transformers`, relative to the largest logit (to 1 when all are
smaller): float32 sums in another order, no more."""
_BASELINE_COUNT = 8


class AnswersDiffer(Unavailable):
    """The version answers, but not what its bundle gives in this process."""


@dataclass(frozen=True)
class Expected:
    """What the version of the bundle `digest` must give: for its first `baselines` (picture, channels, height, width) `logits` (picture, classes) by this process, and the answer to its golden request."""

    digest: str
    baselines: np.ndarray
    logits: np.ndarray
    golden: GoldenRequest | None


class Verifying:
    """Verifies versions in this replica's inference server, and knows which were."""

    def __init__(self, classifier: Classifier, timeout_s: float) -> None:
        self._classifier = classifier
        self._timeout_s = timeout_s
        self._verified: set[tuple[str, int]] = set()

    def was_verified(self, name: str, version: int) -> bool:
        """Whether the version passed here. Numbers are not used twice, and a server that has lost it has to load it first."""
        return (name, version) in self._verified

    async def verify(self, served: ServedVersion, expected: Expected) -> None:
        """The baselines through the server, held against this process's logits, and the golden request against those of `transformers`.

        Raises
        ------
        AnswersDiffer
            When the server answers otherwise than this process.
        WrongState
            When it answers its golden request otherwise than `transformers` did, or the bundle is not the one that was published.
        Unavailable, DeadlineExceeded
            When the server does not answer.
        """
        if expected.digest != served.digest:
            raise WrongState(
                f"the bundle of version {served.version} of '{served.name}' is {expected.digest}, not {served.digest} as published"
            )
        answers = await self._classifier.infer(served, expected.baselines, self._timeout_s)
        # Not "is more than": a logit that is no number differs too.
        if not relative_difference(answers.logits, expected.logits) <= GOLDEN_TOLERANCE:
            told = tell_difference(answers.logits, expected.logits)
            raise AnswersDiffer(f"the served version's logits differ from the bundle's: for its baselines {told}")
        if expected.golden:
            pixels = np.stack([served.preprocessor(picture) for picture in expected.golden.pictures])
            answers = await self._classifier.infer(served, pixels, self._timeout_s)
            check_golden(answers.logits, expected.golden, "as served")
        self._verified.add((served.name, served.version))


def find_expected(folder: Path) -> Expected:
    """What the bundle in `folder` must give once it is served.

    Raises
    ------
    InvalidInput
        At `bundle`, when it can't be read or does not take its own baselines.
    """
    bundle, golden = load_bundle(folder), read_golden(folder)
    if golden and golden.logits.shape[1] != len(bundle.labels):
        raise InvalidInput("bundle", f"{GOLDEN}: logits: expected one per class, got {golden.logits.shape}")
    baselines = bundle.baselines[:_BASELINE_COUNT]
    return Expected(bundle.digest, baselines.numpy(), answer(bundle, baselines), golden)


def answer(bundle: ModelBundle, pixel_values: torch.Tensor) -> np.ndarray:
    """The bundle's logits (picture, classes) in this process.

    Raises
    ------
    InvalidInput
        When the model does not take the pictures, or not one finite number comes of it per class.
    """
    try:
        with torch.inference_mode():
            logits = bundle.model(pixel_values=pixel_values).logits
    except Exception as error:
        # Any architecture of transformers may stand here, and each has its own way of not taking a picture.
        raise InvalidInput("bundle", f"the model does not take its own baselines: {error}") from error
    if logits.shape != (len(pixel_values), len(bundle.labels)) or not logits.isfinite().all():
        raise InvalidInput("bundle", "the model's answer to its own baselines is not one finite logit per class")
    return logits.numpy()


def check_golden(logits: np.ndarray, golden: GoldenRequest, source: str) -> float:
    """How far `logits` are from those of `transformers`, relative to the largest; `WrongState` when that is too far."""
    difference = relative_difference(logits, golden.logits)
    if not difference <= GOLDEN_TOLERANCE:
        raise WrongState(
            f"golden request: {source}, {tell_difference(logits, golden.logits)} by transformers: {difference:.2g} of the largest logit, "
            f"at most {GOLDEN_TOLERANCE:g} is taken"
        )
    return difference

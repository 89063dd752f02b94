"""Predict and explain: from decoded pictures to probabilities, maps and segments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from services.common.runtime.errors import InvalidInput
from services.common.vision.explanation import Segment
from services.explainer.domain.attribution import DEFAULT_METHOD
from services.explainer.domain.overlay import draw_overlay
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.versions import find_version
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

SEGMENTATION_SHARE_PX = 32 * 28 * 28
"""Pixels segmented in one go: bounds memory, and lets other calls in between."""


@dataclass(frozen=True)
class Prediction:
    """Probabilities in the order of the version's labels."""

    label: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ExplainOptions:
    """What to explain and how; an empty target means the predicted class."""

    target_label: str = ""
    method: str = DEFAULT_METHOD
    segmentation: SegmentationOptions = field(default_factory=SegmentationOptions)
    with_overlay: bool = False


@dataclass(frozen=True)
class PictureExplanation:
    """`attribution` (height, width) float32 and the masks are in the pixels of the submitted picture."""

    prediction: Prediction
    target_label: str
    attribution: np.ndarray
    segments: list[Segment]
    completeness_delta: float
    overlay_png: bytes


class Explaining:
    """The use cases that read: predict and explain."""

    def __init__(self, classifier: Classifier, repository: ModelRepository) -> None:
        self._classifier = classifier
        self._repository = repository

    async def predict(
        self, name: str, version: int, digest: str, pictures: Sequence[np.ndarray], budget: Budget
    ) -> tuple[ServedVersion, list[Prediction]]:
        """Classify `pictures`, each uint8 (height, width) or (height, width, 3).

        Raises
        ------
        DeadlineExceeded
            When `budget` was spent before the answer.
        """
        served = find_version(self._repository, name, version, digest)
        pixel_values = await asyncio.to_thread(_preprocess, served, pictures)
        answers = await self._classifier.infer(served, pixel_values, budget.remaining_s("pictures preprocessed"))
        return served, _read_logits(served, answers.logits)

    async def explain(
        self,
        name: str,
        version: int,
        digest: str,
        pictures: Sequence[np.ndarray],
        options: ExplainOptions,
        budget: Budget,
    ) -> tuple[ServedVersion, list[PictureExplanation]]:
        """Classify and explain `pictures`.

        Raises
        ------
        InvalidInput
            At `target_label`, when the model has no such class.
        DeadlineExceeded
            When `budget` was spent before the last segment.
        """
        served = find_version(self._repository, name, version, digest)
        if options.target_label and options.target_label not in served.labels:
            raise InvalidInput("target_label", f"'{options.target_label}' is none of {', '.join(served.labels)}")
        target = served.labels.index(options.target_label) if options.target_label else -1
        pixel_values = await asyncio.to_thread(_preprocess, served, pictures)
        remaining_s = budget.remaining_s("pictures preprocessed")
        answers = await self._classifier.infer(served, pixel_values, remaining_s, target, options.method)
        predictions = _read_logits(served, answers.logits)
        rows = list(zip(pictures, predictions, answers.maps, answers.completeness_deltas, strict=True))
        explanations: list[PictureExplanation] = []
        size = max(1, SEGMENTATION_SHARE_PX // answers.maps[0].size)
        for start in range(0, len(rows), size):
            budget.remaining_s(f"{start} of {len(rows)} pictures segmented")
            explanations += await asyncio.to_thread(_explain_pictures, options, rows[start : start + size], budget)
        return served, explanations


def _preprocess(served: ServedVersion, pictures: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([served.preprocessor(picture) for picture in pictures])


def _read_logits(served: ServedVersion, logits: np.ndarray) -> list[Prediction]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    return [Prediction(served.labels[int(row.argmax())], tuple(row.tolist())) for row in probabilities]


def _explain_pictures(
    options: ExplainOptions, rows: Sequence[tuple[np.ndarray, Prediction, np.ndarray, float]], budget: Budget
) -> list[PictureExplanation]:
    """The explanations of `rows`: picture, prediction, map, completeness. The maps are segmented together."""
    segments = segment_maps(np.stack([evidence for _, _, evidence, _ in rows]), options.segmentation)
    explanations = []
    for (picture, prediction, evidence, delta), pieces in zip(rows, segments, strict=True):
        budget.remaining_s("maps segmented, not yet brought to the pictures' sizes")
        explanations.append(_explain_picture(options, picture, prediction, evidence, pieces, delta))
    return explanations


def _explain_picture(
    options: ExplainOptions,
    picture: np.ndarray,
    prediction: Prediction,
    evidence: np.ndarray,
    segments: list[Segment],
    delta: float,
) -> PictureExplanation:
    size = picture.shape[:2]
    resized = _resize_map(evidence, size)
    placed = [Segment(segment.index, segment.share, _resize_mask(segment.mask, size)) for segment in segments]
    placed = [segment for segment in placed if segment.mask.any()]
    overlay = draw_overlay(picture, resized, placed) if options.with_overlay else b""
    target = options.target_label or prediction.label
    return PictureExplanation(prediction, target, resized, placed, float(delta), overlay)


def _resize_map(evidence: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, with the sum kept: the map stays in logits of the target, whatever the picture's size."""
    if evidence.shape == size:
        return evidence
    resized = np.asarray(Image.fromarray(evidence).resize(size[::-1], Image.Resampling.BILINEAR))
    return resized * np.float32(evidence.size / resized.size)


def _resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if mask.shape == size:
        return mask
    return np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))

"""Predict and explain: from decoded pictures to probabilities, maps and segments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image

from services.common.runtime.errors import InvalidInput
from services.common.vision.explanation import Segment
from services.common.vision.problem_type import PREDICTED_FROM, ProblemType
from services.explainer.domain.attribution import DEFAULT_METHOD
from services.explainer.domain.localization import Localization, measure_localization
from services.explainer.domain.overlay import draw_overlay
from services.explainer.domain.segmentation.segments import SegmentationOptions
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.segmenting import Segmenting, size_of_share
from services.explainer.handlers.shadowing import Shadowing
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Classifier, Inference, Question, ServedVersion


@dataclass(frozen=True)
class Prediction:
    """Probabilities in the order of the version's labels; `label` has the highest, `labels` are all that are said of the picture."""

    label: str
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class ExplainOptions:
    """What to explain and how; an empty target means the class of the highest probability, an empty contrast none, no segmentation maps alone."""

    target_label: str = ""
    contrast_label: str = ""
    method: str = DEFAULT_METHOD
    segmentation: SegmentationOptions | None = field(default_factory=SegmentationOptions)
    with_overlay: bool = False
    with_faithfulness: bool = False


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the curves of deletion and insertion, each 0 to 1."""

    deletion_auc: float
    insertion_auc: float


@dataclass(frozen=True)
class PictureExplanation:
    """`attribution` (height, width) float32 and the masks are in the pixels of the submitted picture; `faithfulness` when asked for, `localization` in a mask that was given."""

    prediction: Prediction
    target_label: str
    attribution: np.ndarray
    segments: list[Segment]
    completeness_delta: float
    faithfulness: Faithfulness | None
    overlay_png: bytes
    localization: Localization | None = None


class Explaining:
    """The use cases that read: predict and explain."""

    def __init__(
        self,
        classifier: Classifier,
        versions: LiveVersions,
        shadowing: Shadowing,
        segmenting: Segmenting | None = None,
    ) -> None:
        self._classifier = classifier
        self._versions = versions
        self._shadowing = shadowing
        self._segmenting = segmenting or Segmenting()

    async def predict(
        self, name: str, version: int, digest: str, pictures: Sequence[np.ndarray], budget: Budget
    ) -> tuple[ServedVersion, list[Prediction]]:
        """Classify `pictures`, each uint8 (height, width) or (height, width, 3); a shadow of the model may get them afterwards.

        Raises
        ------
        DeadlineExceeded
            When `budget` was spent before the answer.
        """
        served = self._versions.find(name, version, digest)
        pixel_values = await asyncio.to_thread(_preprocess, served, pictures, budget)
        answers = await self._classifier.infer(served, pixel_values, budget.remaining_s("pictures preprocessed"))
        predictions = _read_logits(served, answers.logits)
        self._shadowing.offer(served, pictures, [prediction.probabilities for prediction in predictions])
        return served, predictions

    async def explain(
        self,
        name: str,
        version: int,
        digest: str,
        pictures: Sequence[np.ndarray],
        options: ExplainOptions,
        budget: Budget,
        masks: Sequence[np.ndarray] = (),
    ) -> tuple[ServedVersion, list[PictureExplanation]]:
        """Classify and explain `pictures`; hold their maps against `masks`, one for each of the pictures, of its size and not empty, or none.

        Raises
        ------
        InvalidInput
            At `target_label` or `contrast_label`, when the model has no such class or both are the same; at `method`, when it does not
            go with the model's architecture.
        DeadlineExceeded
            When `budget` was spent before the last segment.
        """
        served = self.pin(name, version, digest, options)
        rows = await self._attribute(served, pictures, _ask(options, served.labels), budget)
        for index, row in enumerate(rows):
            if _is_contrast(options, row.prediction):
                raise _contrast_refused(options, f"images[{index}]")
        explanations = await self._segment(rows, options, budget)
        if masks:
            explanations = await asyncio.to_thread(_localize, explanations, masks, budget)
        return served, explanations

    def pin(self, name: str, version: int, digest: str, options: ExplainOptions) -> ServedVersion:
        """The version that is asked for, of which `options` may be asked.

        Raises
        ------
        InvalidInput
            At `target_label` or `contrast_label`, when the model has no such class or both are the same.
        """
        served = self._versions.find(name, version, digest)
        _ask(options, served.labels)
        return served

    async def explain_each(
        self, served: ServedVersion, pictures: Sequence[np.ndarray], options: ExplainOptions, budget: Budget
    ) -> list[PictureExplanation | InvalidInput]:
        """Explain `pictures` by a version that `pin` gave; a picture of the contrast's class gets the refusal that it would have met alone.

        Raises
        ------
        InvalidInput
            At `method`, when it does not go with the model's architecture.
        DeadlineExceeded
            When `budget` was spent before the last segment.
        """
        question = replace(_ask(options, served.labels), in_bulk=True)
        rows = await self._attribute(served, pictures, question, budget)
        refused = [_is_contrast(options, row.prediction) for row in rows]
        kept = [row for row, is_refused in zip(rows, refused, strict=True) if not is_refused]
        explanations = iter(await self._segment(kept, options, budget))
        return [
            _contrast_refused(options, "the picture") if is_refused else next(explanations) for is_refused in refused
        ]

    async def _attribute(
        self, served: ServedVersion, pictures: Sequence[np.ndarray], question: Question, budget: Budget
    ) -> list[_Row]:
        pixel_values = await asyncio.to_thread(_preprocess, served, pictures, budget)
        remaining_s = budget.remaining_s("pictures preprocessed")
        answers = await self._classifier.infer(served, pixel_values, remaining_s, question)
        predictions = _read_logits(served, answers.logits)
        return [_Row(*row) for row in zip(pictures, predictions, *_columns(answers), strict=True)]

    async def _segment(self, rows: Sequence[_Row], options: ExplainOptions, budget: Budget) -> list[PictureExplanation]:
        explanations: list[PictureExplanation] = []
        size = size_of_share(rows[0].evidence.size) if rows else 1
        for start in range(0, len(rows), size):
            budget.remaining_s(f"{start} of {len(rows)} pictures segmented")
            share = rows[start : start + size]
            segments: list[list[Segment]] = [[] for _ in share]
            if options.segmentation:
                maps = np.stack([row.evidence for row in share])
                segments = await self._segmenting.segment(maps, options.segmentation, budget)
            explanations += await asyncio.to_thread(_explain_pictures, options, share, segments, budget)
        return explanations


@dataclass(frozen=True)
class _Row:
    """A picture and what was found of it; `evidence` is the map at the size that the model takes."""

    picture: np.ndarray
    prediction: Prediction
    evidence: np.ndarray
    completeness_delta: float
    faithfulness: Faithfulness | None


def _columns(answers: Inference) -> list[Sequence[Any]]:
    areas = answers.faithfulness
    faithfulness = [None] * len(answers.maps) if areas is None else [Faithfulness(*row) for row in areas.tolist()]
    return [answers.maps, answers.completeness_deltas.tolist(), faithfulness]


def _ask(options: ExplainOptions, labels: Sequence[str]) -> Question:
    places = {"": -1} | {label: place for place, label in enumerate(labels)}
    for name, label in (("target_label", options.target_label), ("contrast_label", options.contrast_label)):
        if label not in places:
            raise InvalidInput(name, f"'{label}' is none of {', '.join(labels)}")
    target, contrast = places[options.target_label], places[options.contrast_label]
    if contrast == target >= 0:
        raise InvalidInput("contrast_label", f"'{options.contrast_label}' is the target; expected another class")
    return Question(options.method, target, contrast, options.with_faithfulness)


def _is_contrast(options: ExplainOptions, prediction: Prediction) -> bool:
    """Where the target is the predicted class, it may turn out to be the contrast."""
    return not options.target_label and prediction.label == options.contrast_label


def _contrast_refused(options: ExplainOptions, where: str) -> InvalidInput:
    return InvalidInput(
        "contrast_label",
        f"'{options.contrast_label}' is what the model says of {where}; expected another class, or a target_label",
    )


def _preprocess(served: ServedVersion, pictures: Sequence[np.ndarray], budget: Budget) -> np.ndarray:
    rows = []
    for picture in pictures:
        budget.remaining_s(f"{len(rows)} of {len(pictures)} pictures preprocessed")
        rows.append(served.preprocessor(picture))
    return np.stack(rows)


def _read_logits(served: ServedVersion, logits: np.ndarray) -> list[Prediction]:
    return [_predict(served, row) for row in served.problem_type.read_probabilities(logits)]


def _predict(served: ServedVersion, probabilities: np.ndarray) -> Prediction:
    label = served.labels[int(probabilities.argmax())]
    said = (label,)
    if served.problem_type is ProblemType.MULTI_LABEL:
        said = tuple(
            each for each, is_said in zip(served.labels, probabilities > PREDICTED_FROM, strict=True) if is_said
        )
    return Prediction(label, said, tuple(probabilities.tolist()))


def _explain_pictures(
    options: ExplainOptions, rows: Sequence[_Row], segments: Sequence[list[Segment]], budget: Budget
) -> list[PictureExplanation]:
    explanations = []
    for row, pieces in zip(rows, segments, strict=True):
        budget.remaining_s("maps segmented, not yet brought to the pictures' sizes")
        explanations.append(_explain_picture(options, row, pieces))
    return explanations


def _localize(
    explanations: Sequence[PictureExplanation], masks: Sequence[np.ndarray], budget: Budget
) -> list[PictureExplanation]:
    localized = []
    for explanation, mask in zip(explanations, masks, strict=True):
        budget.remaining_s("maps made, not yet held against the masks")
        localized.append(replace(explanation, localization=measure_localization(explanation.attribution, mask)))
    return localized


def _explain_picture(options: ExplainOptions, row: _Row, segments: list[Segment]) -> PictureExplanation:
    size = row.picture.shape[:2]
    resized = _resize_map(row.evidence, size)
    placed = [Segment(segment.index, segment.share, _resize_mask(segment.mask, size)) for segment in segments]
    placed = [segment for segment in placed if segment.mask.any()]
    overlay = draw_overlay(row.picture, resized, placed) if options.with_overlay else b""
    target = options.target_label or row.prediction.label
    return PictureExplanation(
        row.prediction, target, resized, placed, row.completeness_delta, row.faithfulness, overlay
    )


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

"""Stored critiques judged again: the same segments by the same specification, compared verdict by verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import ClassSpecification
from services.common.vision.critique import Critique, Provenance
from services.common.vision.masks import decode_mask
from services.common.vision.typed_rules import MaskSource, TypedRule
from services.lvlm.handlers.beside import Beside
from services.lvlm.handlers.translating import ExplainedPicture, Translating


@dataclass(frozen=True)
class ReplayedCritique:
    """Today's critique beside the stored one."""

    critique: Critique
    changed_segments: tuple[int, ...]
    is_same: bool


class Replaying:
    """Judges again what stored critiques judged."""

    def __init__(self, translating: Translating) -> None:
        self._translating = translating
        self._beside = Beside()

    async def replay(
        self,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedPicture],
        stored: Sequence[Critique],
        mask_source: MaskSource,
        typed_rules: Sequence[TypedRule],
    ) -> list[ReplayedCritique]:
        """One for each of `stored`, in order; nothing is delivered to a queue.

        Raises
        ------
        InvalidInput
            When a picture is not the one that was judged, or its segments are not; names the picture.
        Unavailable, DeadlineExceeded
            When the engine is away.
        """
        if len(pictures) != len(stored):
            raise InvalidInput("critiques", f"expected one for each of {len(pictures)} pictures, got {len(stored)}")
        await self._beside.run(_check_same_questions, pictures, stored)
        critiques = await self._translating.translate(
            stored[0].model_digest, specification, pictures, mask_source=mask_source, typed_rules=typed_rules
        )
        return [compare(*pair) for pair in zip(stored, critiques, strict=True)]


def compare(stored: Critique, today: Critique) -> ReplayedCritique:
    """Two critiques of the same segments: where their verdicts differ, and whether the critic's words do."""
    changed = tuple(
        now.segment_index
        for then, now in zip(stored.verdicts, today.verdicts, strict=True)
        if then.verdict is not now.verdict
    )
    return ReplayedCritique(today, changed, is_same=not changed and stored.reasons == today.reasons)


def list_differences(then: Provenance, now: Provenance) -> list[str]:
    """The names of what differs in how critiques came about."""
    return [name for name in Provenance.model_fields if getattr(then, name) != getattr(now, name)]


def _check_same_questions(pictures: Sequence[ExplainedPicture], stored: Sequence[Critique]) -> None:
    for index, pair in enumerate(zip(pictures, stored, strict=True)):
        _check_same_question(index, *pair)


def _check_same_question(index: int, picture: ExplainedPicture, stored: Critique) -> None:
    name = picture.image_id
    if stored.image_id != name:
        raise InvalidInput(
            f"critiques[{index}].image_id", f"speaks of '{stored.image_id}'; picture {index} is '{name}'"
        )
    if stored.image_digest != picture.image_digest:
        raise InvalidInput(
            f"images[{index}].image.data", f"'{name}' changed since it was judged: expected {stored.image_digest}"
        )
    if stored.true_label != picture.true_label:
        raise InvalidInput(
            f"images[{index}].true_label",
            f"'{name}' was judged as class '{stored.true_label}', not '{picture.true_label}'",
        )
    judged = [verdict.segment_index for verdict in stored.verdicts]
    if judged != [segment.index for segment in picture.segments]:
        raise InvalidInput(f"images[{index}].segments", f"'{name}': expected the segments that were judged: {judged}")
    for verdict, segment in zip(stored.verdicts, picture.segments, strict=True):
        mask = decode_mask(
            verdict.mask.counts, *verdict.mask.size, f"critiques[{index}].verdicts[{segment.index - 1}].mask"
        )
        if not np.array_equal(mask, segment.mask):
            raise InvalidInput(
                f"images[{index}].segments[{segment.index - 1}].mask", f"'{name}': not the pixels that were judged"
            )

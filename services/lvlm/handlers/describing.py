"""Behaviour to words: each decision described, then counted per class, then written up where the engine can write."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.behavior import (
    ClassBehavior,
    ClassEvidence,
    DescribedPicture,
    count_evidence,
    tabulate,
    tell_counts,
    tell_written,
)
from services.lvlm.domain.claims import CheckedText, check_text, tell_refusals
from services.lvlm.domain.prompts import DESCRIBE, SUMMARISE, PromptProfile
from services.lvlm.handlers.beside import Beside
from services.lvlm.handlers.together import all_or_none
from services.lvlm.handlers.translating import ExplainedPicture
from services.lvlm.ports import Engine, Question

log = logging.getLogger(__name__)

WRITE_COUNT = 2
"""So often a text is asked for; one whose sentences are not all borne out is asked for once more, then the counts speak."""
MAX_AT_ONCE = 64
"""Pictures described at once: their panels are in memory, and other callers wait for the engine too."""


class Describing:
    """Puts a model's behaviour into words."""

    def __init__(self, engine: Engine, profile: PromptProfile, seed: int) -> None:
        self._engine = engine
        self._profile = profile
        self._seed = seed
        self._beside = Beside()

    async def describe(
        self, pictures: Sequence[ExplainedPicture]
    ) -> tuple[list[DescribedPicture], list[ClassBehavior]]:
        """A description per picture, in order, and the behaviour per explained class."""
        places = asyncio.Semaphore(MAX_AT_ONCE)
        described = await all_or_none(self._describe(picture, places) for picture in pictures)
        behaviors = await all_or_none(self._summarise(evidence) for evidence in count_evidence(described))
        return described, behaviors

    async def _describe(self, picture: ExplainedPicture, places: asyncio.Semaphore) -> DescribedPicture:
        masks = [segment.mask for segment in picture.segments]
        async with places:
            question = Question(
                self._profile.render_text(DESCRIBE, segment_count=len(masks)),
                await self._beside.run(self._profile.render_images, DESCRIBE, picture.pixels, masks),
                self._profile.prompts[DESCRIBE].max_new_tokens,
                seed=self._seed,
            )
            try:
                text = await self._engine.answer(question)
            except BadModelOutput:
                text = ""  # a refusal is one picture's: it counts as unreadable
        shares = {number: segment.share for number, segment in enumerate(picture.segments, start=1)}
        return DescribedPicture(picture.image_id, picture.target_label, shares, text.strip())

    async def _summarise(self, evidence: ClassEvidence) -> ClassBehavior:
        """The language model's text when every sentence is borne out, else the counts."""
        if SUMMARISE not in self._profile.prompts or not evidence.items:
            return tell_counts(evidence)
        refused: list[str] = []
        for attempt in range(WRITE_COUNT):
            try:
                checked = await self._write(evidence, refused, attempt)
            except BadModelOutput:
                continue
            if checked.claims and not checked.refusals:
                return tell_written(evidence, checked.claims)
            refused = tell_refusals(checked)
            log.info("text refused", extra={"attempt": attempt, "refused": len(checked.refusals)})
        return tell_counts(evidence)

    async def _write(self, evidence: ClassEvidence, refused: Sequence[str], attempt: int) -> CheckedText:
        text = self._profile.render_text(
            SUMMARISE,
            class_name=evidence.target_label,
            image_count=evidence.image_count,
            table=tabulate(evidence),
            refused=refused,
        )
        question = Question(
            text, max_new_tokens=self._profile.prompts[SUMMARISE].max_new_tokens, seed=self._seed, attempt=attempt
        )
        return await self._beside.run(check_text, await self._engine.answer(question), evidence)

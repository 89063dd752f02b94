"""Words to masks: the critic argues about every segment, the judge says what it makes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.runtime.errors import BadModelOutput, WrongState
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import (
    MAX_CRITIQUE_BYTES,
    Critique,
    Provenance,
    RleMask,
    SegmentVerdict,
    Verdict,
    split_into_batches,
)
from services.common.vision.explanation import Segment
from services.common.vision.masks import encode_mask
from services.lvlm.domain.prompts import CRITIC, JUDGE, PromptProfile
from services.lvlm.domain.verdicts import read_verdicts, verdict_schema
from services.lvlm.handlers.together import all_or_none
from services.lvlm.ports import CritiqueSink, Engine, Question

log = logging.getLogger(__name__)

ATTEMPT_COUNT = 3
"""Critic and judge are asked this often in all when they refuse or the judge's answer can't be read; then the picture FAILED."""


@dataclass(frozen=True)
class ExplainedPicture:
    """A picture, uint8 (height, width) or (height, width, 3), with the segments of one decision."""

    image_id: str
    image_digest: str
    pixels: np.ndarray
    target_label: str
    true_label: str
    segments: tuple[Segment, ...]


class Translating:
    """Judges explained pictures by a class specification."""

    def __init__(self, engine: Engine, profile: PromptProfile, sink: CritiqueSink | None, seed: int) -> None:
        self._engine = engine
        self._profile = profile
        self._sink = sink
        self._seed = seed

    @property
    def provenance(self) -> Provenance:
        """What is needed to run a critique again."""
        return Provenance(
            engine=self._engine.name,
            model_id=self._engine.model_id,
            prompt_digest=self._profile.digest,
            seed=self._seed,
        )

    async def translate(
        self,
        model_digest: str,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedPicture],
        job_id: str = "",
    ) -> list[Critique]:
        """One critique per picture, in order; delivered to `job_id`'s queue first when it is given.

        Raises
        ------
        WrongState
            When `job_id` is given and this service has no broker.
        Unavailable, DeadlineExceeded
            When the engine or the broker is away: nothing is delivered.
        """
        if job_id and self._sink is None:
            raise WrongState("job_id: this service has no broker (LVLM_BROKER_URL); leave job_id unset")
        rules = [specification.rule_for(picture.true_label) for picture in pictures]
        critiques = await all_or_none(
            self._criticise(model_digest, specification.task, rule, picture)
            for rule, picture in zip(rules, pictures, strict=True)
        )
        if job_id and self._sink is not None:
            critiques = [_fit(critique) for critique in critiques]
            await self._sink.publish(split_into_batches(job_id, critiques))
        return critiques

    async def _criticise(self, model_digest: str, task: str, rule: ClassRule, picture: ExplainedPicture) -> Critique:
        count = len(picture.segments)
        # The true class is what the critic is told, even when its rule is the one for all classes.
        rule = ClassRule(picture.true_label, rule.should_matter, rule.should_not_matter)
        reasons, failure, verdicts = "", "", [Verdict.FAILED] * count
        for attempt in range(ATTEMPT_COUNT):
            try:
                reasons = await self._ask_critic(task, rule, picture, attempt)
                answer = await self._ask_judge(task, rule, reasons, count, attempt)
                verdicts, failure = read_verdicts(answer, count), ""
                break
            except BadModelOutput as error:
                failure = error.message
                log.info("no verdict", extra={"attempt": attempt, "segment_count": count})
        return Critique(
            image_id=picture.image_id,
            image_digest=picture.image_digest,
            model_digest=model_digest,
            true_label=picture.true_label,
            reasons=reasons,
            verdicts=[_judged(*pair) for pair in zip(picture.segments, verdicts, strict=True)],
            failure=failure,
            provenance=self.provenance,
        )

    async def _ask_critic(self, task: str, rule: ClassRule, picture: ExplainedPicture, attempt: int) -> str:
        masks = [segment.mask for segment in picture.segments]
        return await self._engine.answer(
            Question(
                self._profile.render_text(CRITIC, segment_count=len(masks), **self._profile.rule_values(task, rule)),
                self._profile.render_images(CRITIC, picture.pixels, masks),
                self._profile.prompts[CRITIC].max_new_tokens,
                seed=self._seed,
                attempt=attempt,
            )
        )

    async def _ask_judge(self, task: str, rule: ClassRule, reasons: str, segment_count: int, attempt: int) -> str:
        return await self._engine.answer(
            Question(
                self._profile.render_text(
                    JUDGE,
                    segment_count=segment_count,
                    critic_text=reasons,
                    **self._profile.rule_values(task, rule),
                ),
                max_new_tokens=self._profile.prompts[JUDGE].max_new_tokens,
                schema=verdict_schema(segment_count),
                seed=self._seed,
                attempt=attempt,
            )
        )


def _fit(critique: Critique) -> Critique:
    """`critique`, or its failure when its masks are too ragged to travel: one picture must not hold up the rest."""
    if critique.byte_count <= MAX_CRITIQUE_BYTES:
        return critique
    told = f"{critique.byte_count} bytes with its masks; at most {MAX_CRITIQUE_BYTES} can be delivered"
    return critique.model_copy(update={"verdicts": [], "failure": told, "reasons": ""})


def _judged(segment: Segment, verdict: Verdict) -> SegmentVerdict:
    height, width = segment.mask.shape
    mask = RleMask(counts=encode_mask(segment.mask), size=(height, width))
    return SegmentVerdict(segment_index=segment.index, verdict=verdict, share=segment.share, mask=mask)

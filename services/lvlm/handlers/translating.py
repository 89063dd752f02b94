"""Words to masks: the critic argues about every segment and the judge says what it makes of it, or the rules' phrases are looked for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

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
from services.common.vision.typed_rules import MaskSource, Polarity, TypedRule, list_phrases
from services.lvlm.domain.agreement import Looked, agree, judge_by_regions, tell
from services.lvlm.domain.prompts import CRITIC, JUDGE, PromptProfile
from services.lvlm.domain.verdicts import read_verdicts, verdict_schema
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.beside import Beside
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.handlers.provenance import tell_provenance
from services.lvlm.handlers.together import all_or_none
from services.lvlm.ports import CritiqueSink, Engine, Question

log = logging.getLogger(__name__)


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
    """Judges explained pictures by a class specification. Without `grounding` it knows the judged way alone."""

    def __init__(
        self,
        engine: Engine,
        profile: PromptProfile,
        sink: CritiqueSink | None,
        seed: int,
        grounding: Grounding | None = None,
    ) -> None:
        self._engine = engine
        self._profile = profile
        self._sink = sink
        self._seed = seed
        self._grounding = grounding
        self._beside = Beside()

    @property
    def provenance(self) -> Provenance:
        """What is needed to run a critique again."""
        return tell_provenance(self._engine, self._profile, self._seed)

    async def translate(
        self,
        model_digest: str,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedPicture],
        job_id: str = "",
        mask_source: MaskSource = MaskSource.JUDGED,
        typed_rules: Sequence[TypedRule] = (),
    ) -> list[Critique]:
        """One critique per picture, in order; delivered to `job_id`'s queue first when it is given.

        `typed_rules` say what is looked for where `mask_source` is not JUDGED.

        Raises
        ------
        InvalidInput
            When a picture's class has no rule of the kind that is needed.
        WrongState
            When `job_id` is given and this service has no broker, or phrases can't be looked for.
        Unavailable, DeadlineExceeded
            When the engine is away, and nothing is delivered; or the broker, which may have some batches by then: delivered again, they count once.
        """
        if job_id and self._sink is None:
            raise WrongState("job_id: this service has no broker (LVLM_BROKER_URL); leave job_id unset")
        rules = [specification.rule_for(picture.true_label) for picture in pictures]
        sought = list_phrases(mask_source, typed_rules, [picture.true_label for picture in pictures])
        if mask_source is not MaskSource.JUDGED:
            self._finder.check_profile()
        shown: Sequence[Sequence[Image.Image] | None] = [None] * len(pictures)
        if mask_source is not MaskSource.GROUNDED:
            # All before the first question, so that the engine finds them together; a critic who is asked again sees the same.
            shown = [await self._beside.run(self._draw, picture) for picture in pictures]
        critiques = await all_or_none(
            self._translate(
                model_digest, specification.task, rule, picture, panels, mask_source, sought[picture.true_label]
            )
            for rule, picture, panels in zip(rules, pictures, shown, strict=True)
        )
        if job_id and self._sink is not None:
            critiques = [_fit(critique) for critique in critiques]
            await self._sink.publish(split_into_batches(job_id, critiques))
        return critiques

    async def _translate(
        self,
        model_digest: str,
        task: str,
        rule: ClassRule,
        picture: ExplainedPicture,
        panels: Sequence[Image.Image] | None,
        mask_source: MaskSource,
        phrases: Sequence[tuple[Polarity, str]],
    ) -> Critique:
        if panels is None:
            return await self._look(model_digest, picture, phrases)
        judged = await self._criticise(model_digest, task, rule, picture, panels)
        if mask_source is MaskSource.JUDGED or judged.failure:
            return judged
        return _agree(judged, await self._look(model_digest, picture, phrases))

    async def _look(
        self, model_digest: str, picture: ExplainedPicture, phrases: Sequence[tuple[Polarity, str]]
    ) -> Critique:
        """Verdicts by the regions under the segments; the reasons say what was found."""
        found = await self._finder.ground(picture.pixels, [phrase for _, phrase in phrases])
        looked = [Looked(polarity, grounded) for (polarity, _), grounded in zip(phrases, found, strict=True)]
        masks = [segment.mask for segment in picture.segments]
        verdicts = await self._beside.run(judge_by_regions, masks, looked)
        return await self._beside.run(self._critique, model_digest, picture, tell(looked), verdicts, "")

    def _draw(self, picture: ExplainedPicture) -> list[Image.Image]:
        """What the critic is shown."""
        return self._profile.render_images(CRITIC, picture.pixels, [segment.mask for segment in picture.segments])

    async def _criticise(
        self,
        model_digest: str,
        task: str,
        rule: ClassRule,
        picture: ExplainedPicture,
        panels: Sequence[Image.Image],
    ) -> Critique:
        count = len(picture.segments)
        # The true class is what the critic is told, even when its rule is the one for all classes.
        rule = ClassRule(picture.true_label, rule.should_matter, rule.should_not_matter)
        reasons, failure, verdicts = "", "", [Verdict.FAILED] * count
        for attempt in range(ATTEMPT_COUNT):
            try:
                reasons = await self._ask_critic(task, rule, panels, count, attempt)
                answer = await self._ask_judge(task, rule, reasons, count, attempt)
                verdicts, failure = read_verdicts(answer, count), ""
                break
            except BadModelOutput as error:
                failure = error.message
                log.info("no verdict", extra={"attempt": attempt, "segment_count": count})
        return await self._beside.run(self._critique, model_digest, picture, reasons, verdicts, failure)

    def _critique(
        self, model_digest: str, picture: ExplainedPicture, reasons: str, verdicts: Sequence[Verdict], failure: str
    ) -> Critique:
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

    @property
    def _finder(self) -> Grounding:
        if self._grounding is None:
            raise WrongState("mask_source: this service looks for no phrases; leave mask_source unset")
        return self._grounding

    async def _ask_critic(
        self, task: str, rule: ClassRule, panels: Sequence[Image.Image], segment_count: int, attempt: int
    ) -> str:
        return await self._engine.answer(
            Question(
                self._profile.render_text(CRITIC, segment_count=segment_count, **self._profile.rule_values(task, rule)),
                panels,
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


def _agree(judged: Critique, grounded: Critique) -> Critique:
    """One critique of two: the verdicts that both give, the reasons of both."""
    verdicts = [
        first.model_copy(
            update={
                "verdict": agree(first.verdict, second.verdict),
                "judged_verdict": first.verdict,
                "grounded_verdict": second.verdict,
            }
        )
        for first, second in zip(judged.verdicts, grounded.verdicts, strict=True)
    ]
    return judged.model_copy(update={"verdicts": verdicts, "reasons": f"{judged.reasons}\n{grounded.reasons}"})


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

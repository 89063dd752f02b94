"""Behaviour to words: each decision described, then counted per class."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.behavior import ClassBehavior, DescribedPicture, summarise
from services.lvlm.domain.prompts import DESCRIBE, PromptProfile
from services.lvlm.handlers.together import all_or_none
from services.lvlm.handlers.translating import ExplainedPicture
from services.lvlm.ports import Engine, Question


class Describing:
    """Puts a model's behaviour into words."""

    def __init__(self, engine: Engine, profile: PromptProfile, seed: int) -> None:
        self._engine = engine
        self._profile = profile
        self._seed = seed

    async def describe(
        self, pictures: Sequence[ExplainedPicture]
    ) -> tuple[list[DescribedPicture], list[ClassBehavior]]:
        """A description per picture, in order, and the behaviour per explained class."""
        described = await all_or_none(self._describe(picture) for picture in pictures)
        return described, summarise(described)

    async def _describe(self, picture: ExplainedPicture) -> DescribedPicture:
        masks = [segment.mask for segment in picture.segments]
        question = Question(
            self._profile.render_text(DESCRIBE, segment_count=len(masks)),
            self._profile.render_images(DESCRIBE, picture.pixels, masks),
            self._profile.prompts[DESCRIBE].max_new_tokens,
            seed=self._seed,
        )
        try:
            text = await self._engine.answer(question)
        except BadModelOutput:
            text = ""  # a refusal is one picture's: it counts as unreadable
        shares = {number: segment.share for number, segment in enumerate(picture.segments, start=1)}
        return DescribedPicture(picture.image_id, picture.target_label, shares, text.strip())

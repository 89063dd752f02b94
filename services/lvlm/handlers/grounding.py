"""Phrases to pixels: the language model says where, a segmenter says which pixels."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from PIL import Image

from services.common.runtime.errors import BadModelOutput, WrongState
from services.common.vision.critique import Provenance
from services.lvlm.domain.boxes import PixelBox, Placement
from services.lvlm.domain.coordinates.family import CoordinateFamily, UnknownPhrase
from services.lvlm.domain.prompts import GROUND, PromptProfile
from services.lvlm.domain.regions import Grounded, GroundingState, put_together
from services.lvlm.handlers.attempts import ATTEMPT_COUNT
from services.lvlm.handlers.beside import Beside
from services.lvlm.handlers.provenance import tell_provenance
from services.lvlm.handlers.together import all_or_none
from services.lvlm.ports import Engine, Question, Segmenter

log = logging.getLogger(__name__)

PANEL = "picture"


class Grounding:
    """Finds what phrases name."""

    def __init__(
        self, engine: Engine, profile: PromptProfile, family: CoordinateFamily, segmenter: Segmenter, seed: int
    ) -> None:
        self._engine = engine
        self._profile = profile
        self._family = family
        self._segmenter = segmenter
        self._seed = seed
        self._beside = Beside()
        if GROUND in profile.prompts and profile.prompts[GROUND].panels != (PANEL,):
            raise ValueError(
                f"prompt profile '{profile.name}': boxes are read in the panel '{PANEL}'; 'ground' needs it alone"
            )

    @property
    def provenance(self) -> Provenance:
        """What is needed to ask again."""
        return tell_provenance(self._engine, self._profile, self._seed)

    def check_profile(self) -> None:
        """Raise `WrongState` when the profile has no prompt to ask with."""
        if GROUND not in self._profile.prompts:
            raise WrongState(
                f"the prompt profile '{self._profile.name}' has no prompt 'ground', so no phrase can be looked for; add one or "
                "choose another profile (LVLM_PROMPT_PROFILE)"
            )

    async def ground(self, picture: np.ndarray, phrases: Sequence[str]) -> list[Grounded]:
        """Each phrase in a picture, uint8 (height, width) or (height, width, 3), in order.

        Raises
        ------
        WrongState
            When the profile has no prompt for it.
        Unavailable, DeadlineExceeded, Overloaded
            When the engine is away.
        """
        self.check_profile()
        panels = await self._beside.run(self._profile.render_images, GROUND, picture, [])
        return await all_or_none(self._ground(picture, panels, phrase) for phrase in phrases)

    async def _ground(self, picture: np.ndarray, panels: Sequence[Image.Image], phrase: str) -> Grounded:
        size = picture.shape[:2]
        try:
            boxes = await self._find_boxes(size, panels, phrase)
        except BadModelOutput as error:
            return Grounded(phrase, GroundingState.FAILED, failure=error.message)
        if not boxes:
            return Grounded(phrase, GroundingState.ABSENT)
        insides = await self._segmenter.segment(picture, boxes)
        return await self._beside.run(put_together, phrase, boxes, insides, size)

    async def _find_boxes(self, size: tuple[int, int], panels: Sequence[Image.Image], phrase: str) -> list[PixelBox]:
        """Boxes in the picture's pixels; none means that the engine says there is none.

        Raises
        ------
        BadModelOutput
            When no attempt brought an answer, or the engine does not know the phrase: it is not asked again, for it would guess.
        """
        for attempt in range(ATTEMPT_COUNT):
            try:
                return self._read(await self._ask(panels, phrase, attempt), size)
            except BadModelOutput as error:
                log.info("no boxes", extra={"attempt": attempt})
                if isinstance(error, UnknownPhrase) or attempt == ATTEMPT_COUNT - 1:
                    raise
        raise AssertionError("unreachable")

    async def _ask(self, panels: Sequence[Image.Image], phrase: str, attempt: int) -> str:
        return await self._engine.answer(
            Question(
                self._profile.render_text(GROUND, phrase=phrase),
                panels,
                self._profile.prompts[GROUND].max_new_tokens,
                schema=self._family.schema,
                seed=self._seed,
                attempt=attempt,
            )
        )

    def _read(self, answer: str, size: tuple[int, int]) -> list[PixelBox]:
        side_px = self._profile.size_px
        shown = self._family.read(answer, (side_px, side_px))
        placement = Placement(*size, side_px)
        boxes = [box for box in map(placement.to_picture, shown) if box]
        if shown and not boxes:
            raise BadModelOutput("every box lies beside the picture or has no area")
        return list(dict.fromkeys(boxes))

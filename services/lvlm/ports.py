"""What the use cases need from outside, in our words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from PIL import Image

from services.common.vision.critique import CritiqueBatch
from services.lvlm.domain.boxes import PixelBox


@dataclass(frozen=True)
class Question:
    """One question to a vision-language model: text first, then pictures, so that prefix caches hit.

    `schema` is a JSON schema that the answer must follow, for engines that can hold a model to one. `attempt` counts from 0; a
    repeated question is sampled with another seed instead of answered the same way again.
    """

    text: str
    images: Sequence[Image.Image] = field(default_factory=tuple)
    max_new_tokens: int = 512
    schema: dict[str, Any] | None = None
    seed: int = 0
    attempt: int = 0


class Engine(Protocol):
    """A vision-language model, wherever it runs."""

    name: str
    model_id: str

    async def answer(self, question: Question) -> str:
        """The model's words.

        Raises
        ------
        Unavailable, DeadlineExceeded, Overloaded
            When no answer came; never a made-up one.
        BadModelOutput
            When the model refused this question.
        WrongState
            When the engine is set up wrongly: no such model, a refused key.
        """


class CritiqueSink(Protocol):
    """Where critique batches go."""

    async def publish(self, batches: Sequence[CritiqueBatch]) -> None:
        """Hand every batch over, or raise `Unavailable`."""


class Segmenter(Protocol):
    """From boxes to the pixels of what is in them."""

    async def segment(self, picture: np.ndarray, boxes: Sequence[PixelBox]) -> list[np.ndarray]:
        """Per box the pixels of the thing that it holds, boolean (box height, box width).

        `picture` is uint8, (height, width) or (height, width, 3).
        """

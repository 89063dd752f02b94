"""Explain pictures that come one by one, however many, a part at a time: each gets an answer, a bad one its own refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Protocol, TypeVar

import numpy as np

from plumbline.pictures import PictureError, read_picture_size
from services.common.runtime.errors import InvalidInput, Overloaded, ServiceError
from services.common.vision.preprocessing import ImageLimits, check_request_pixels, decode_image
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.explaining import Explaining, ExplainOptions, PictureExplanation
from services.explainer.handlers.gathering import Weight, gather_parts
from services.explainer.ports import ServedVersion

MAX_IN_WORK = 32
MAX_BYTES_IN_WORK = 64 * 2**20
"""Of encoded pictures, as in the largest request of `Explain`."""
RETRY_S = 1.0
"""Pause before a part is asked for again that found the queue full."""
_FIELD = "image.data"


class SentPicture(Protocol):
    """An encoded file, and the number of its frame (0: the only one)."""

    data: bytes
    frame: int


Sent = TypeVar("Sent", bound=SentPicture)


class ExplainingBatches:
    """The use case. `picture_timeout_s` is the time for each picture; a part has that of its pictures together."""

    def __init__(self, explaining: Explaining, limits: ImageLimits, picture_timeout_s: float) -> None:
        self._explaining = explaining
        self._limits = limits
        self._picture_timeout_s = picture_timeout_s

    async def explain(
        self, served: ServedVersion, pictures: AsyncIterator[Sent], options: ExplainOptions, call: Budget
    ) -> AsyncIterator[tuple[Sent, PictureExplanation | ServiceError]]:
        """Each of `pictures` with its explanation by `served`, or why it has none, in their order; at most `MAX_IN_WORK` are taken and unanswered.

        Raises
        ------
        InvalidInput
            At `method`, when it does not go with the model's architecture.
        DeadlineExceeded
            When `call`, or the time for a part, was spent before its answer.
        Unavailable
            When the inference server is away.
        """
        heaviest = Weight(MAX_BYTES_IN_WORK, self._limits.max_request_pixels)
        async with aclosing(gather_parts(pictures, self._weigh, MAX_IN_WORK, heaviest)) as parts:
            async for part in parts:
                remaining_s = call.remaining_s("a part of the pictures was not begun")
                with Budget.of(min(remaining_s, len(part) * self._picture_timeout_s)) as budget:
                    outcomes = await self._explain_part(served, part, options, budget)
                for sent, outcome in zip(part, outcomes, strict=True):
                    yield sent, outcome

    async def _explain_part(
        self, served: ServedVersion, part: Sequence[SentPicture], options: ExplainOptions, budget: Budget
    ) -> list[PictureExplanation | ServiceError]:
        decoded = await asyncio.to_thread(_decode, part, self._limits, budget)
        pictures = [picture for picture in decoded if isinstance(picture, np.ndarray)]
        explained = iter(await self._explain_decoded(served, pictures, options, budget) if pictures else [])
        return [next(explained) if isinstance(picture, np.ndarray) else picture for picture in decoded]

    async def _explain_decoded(
        self, served: ServedVersion, pictures: Sequence[np.ndarray], options: ExplainOptions, budget: Budget
    ) -> list[PictureExplanation | InvalidInput]:
        while True:
            try:
                return await self._explaining.explain_each(served, pictures, options, budget)
            except Overloaded:
                if budget.remaining_s("the queue was full") <= RETRY_S:
                    raise
            await asyncio.sleep(RETRY_S)

    async def _weigh(self, sent: SentPicture) -> Weight:
        """From the header alone; what can't be read is refused later and holds no pixels."""
        try:
            height_px, width_px = await asyncio.to_thread(read_picture_size, sent.data, self._limits)
        except PictureError:
            return Weight(len(sent.data))
        return Weight(len(sent.data), height_px * width_px)


def _decode(part: Sequence[SentPicture], limits: ImageLimits, budget: Budget) -> list[np.ndarray | ServiceError]:
    decoded: list[np.ndarray | ServiceError] = []
    for sent in part:
        budget.remaining_s(f"{len(decoded)} of {len(part)} pictures decoded")
        try:
            check_request_pixels([(_FIELD, sent.data)], limits)
            decoded.append(decode_image(sent.data, limits, _FIELD, sent.frame))
        except (InvalidInput, Overloaded) as error:
            # The frames of its stack hold the pictures, and it, in a circle that would wait for the garbage collector.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            decoded.append(error)
    return decoded

"""Explain one picture whose file comes in pieces. Its size is told before the first, refused when it is too large, and held against the pieces as they come."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import numpy as np

from plumbline.pictures import picture_digest
from services.common.runtime.errors import DeadlineExceeded, InvalidInput, Overloaded
from services.common.vision.preprocessing import ImageLimits, check_request_pixels, decode_image
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.explaining import Explaining, ExplainOptions, PictureExplanation
from services.explainer.ports import ServedVersion

MAX_AT_ONCE = 2
"""Uploads received, explained or answered at a time; a file, its pixels, its map and its masks come to half a gigabyte at the bounds."""
_FIELD = "piece"


@dataclass(frozen=True)
class Upload:
    """What comes: how many bytes, and which frame of them (0: the only one)."""

    size_bytes: int
    frame: int


@dataclass(frozen=True)
class ExplainedUpload:
    """A picture's explanation, and what names its content."""

    explanation: PictureExplanation
    image_digest: str


class ExplainingUploads:
    """The use case. Files may have `limits.max_bytes`; to wait, to receive and to explain may take `timeout_s` each."""

    def __init__(self, explaining: Explaining, limits: ImageLimits, timeout_s: float) -> None:
        self._explaining = explaining
        self._limits = limits
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(MAX_AT_ONCE)
        self._work = asyncio.Lock()

    @asynccontextmanager
    async def explain(
        self,
        served: ServedVersion,
        upload: Upload,
        pieces: AsyncIterator[bytes],
        options: ExplainOptions,
        call: Budget,
    ) -> AsyncIterator[ExplainedUpload]:
        """The explanation by `served` of the file that `pieces` make; another upload may take its place when the block ends. No piece is read before.

        Raises
        ------
        InvalidInput
            At `upload.size_bytes`, when it is none that is taken; at `piece`, when other than so many bytes come, or no picture that is taken; at
            `method` or `contrast_label`, as for `Explaining.explain`.
        Overloaded
            When no upload before it ended in time.
        DeadlineExceeded
            When `call`, or the time to receive or to explain, was spent.
        """
        most = self._limits.max_bytes
        if not 1 <= upload.size_bytes <= most:
            raise InvalidInput("upload.size_bytes", f"{upload.size_bytes} bytes; 1 to {most} are taken")
        async with self._place(call):
            with self._part_of(call, "no piece was read") as budget:
                data = await _receive(pieces, upload.size_bytes, budget)
            # One after the other: what is made of a picture takes several times its file.
            async with self._work:
                with self._part_of(call, "received, not yet decoded") as budget:
                    picture = await asyncio.to_thread(_decode, data, upload.frame, self._limits)
                    asked = (served.name, served.version, served.digest)
                    _, (explanation,) = await self._explaining.explain(*asked, [picture], options, budget)
                digest = await asyncio.to_thread(picture_digest, data, upload.frame)
            del data, picture
            yield ExplainedUpload(explanation, digest)

    @asynccontextmanager
    async def _place(self, call: Budget) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(min(self._timeout_s, call.remaining_s("waiting for a place"))):
                await self._places.acquire()
        except TimeoutError as error:
            raise Overloaded(f"{MAX_AT_ONCE} uploads are taken at a time, and none of them ended in time") from error
        try:
            yield
        finally:
            self._places.release()

    def _part_of(self, call: Budget, done: str) -> Budget:
        return Budget.of(min(self._timeout_s, call.remaining_s(done)))


async def _receive(pieces: AsyncIterator[bytes], size_bytes: int, budget: Budget) -> bytes:
    file = io.BytesIO()
    try:
        async with asyncio.timeout(budget.remaining_s("no piece was read")):
            async for piece in pieces:
                if file.tell() + len(piece) > size_bytes:
                    raise InvalidInput(_FIELD, f"more bytes came than the {size_bytes} of upload.size_bytes")
                file.write(piece)
    except TimeoutError as error:
        raise DeadlineExceeded(f"no time is left: {file.tell()} of {size_bytes} bytes had come") from error
    if file.tell() < size_bytes:
        raise InvalidInput(_FIELD, f"{file.tell()} bytes came; expected the {size_bytes} of upload.size_bytes")
    return file.getvalue()


def _decode(data: bytes, frame: int, limits: ImageLimits) -> np.ndarray:
    check_request_pixels([(_FIELD, data)], limits)
    return decode_image(data, limits, _FIELD, frame)

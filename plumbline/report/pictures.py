"""Pictures for the page, as data URIs: the page needs nothing beside itself."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from plumbline.client import MAX_MESSAGE_BYTES
from plumbline.common.v1 import critique_pb2
from plumbline.masks import decode_rle
from plumbline.pictures import PictureLimits, decode_picture

SIDE_PX = 168
EMBEDDED_PX = 400
COLOURS = {
    critique_pb2.VERDICT_SPURIOUS: (214, 48, 49),
    critique_pb2.VERDICT_CORE: (39, 174, 96),
    critique_pb2.VERDICT_UNSURE: (241, 196, 15),
    critique_pb2.VERDICT_FAILED: (127, 140, 141),
}

_TAKEN = PictureLimits(max_bytes=MAX_MESSAGE_BYTES)
"""Whatever came in a message: a service may be set to take more than by default."""
_MASK_COLOUR = (231, 76, 160)


def png_uri(data: bytes) -> str:
    """A PNG file as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode('ascii')}"


def draw_verdicts(data: bytes, critique: critique_pb2.Critique) -> str:
    """The picture with each judged segment tinted in its verdict's colour, as a data URI."""
    rgb = np.asarray(open_picture(data), dtype=np.float32) * 0.75
    for verdict in critique.verdicts:
        mask = decode_rle(verdict.mask.counts, verdict.mask.height_px, verdict.mask.width_px)
        if mask.shape == rgb.shape[:2]:
            rgb[mask] = 0.45 * rgb[mask] + 0.55 * np.array(COLOURS[verdict.verdict])
    return _enlarged(Image.fromarray(rgb.astype(np.uint8)))


def draw_mask(data: bytes, mask: np.ndarray, frame: int = 0) -> bytes:
    """The picture with the pixels of `mask`, boolean (height, width), tinted, as a PNG file of its own size."""
    rgb = np.asarray(open_picture(data, frame), dtype=np.float32) * 0.75
    rgb[mask] = 0.45 * rgb[mask] + 0.55 * np.array(_MASK_COLOUR)
    file = io.BytesIO()
    Image.fromarray(rgb.astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def draw_picture(data: bytes, side_px: int = SIDE_PX) -> str:
    """The picture with its longer side made `side_px`, enlarged without smoothing, as a data URI."""
    return _enlarged(open_picture(data), side_px)


def embed_picture(data: bytes) -> str:
    """The picture as a data URI that stays small: as it is up to `EMBEDDED_PX`, larger ones shrunk and as JPEG."""
    picture = open_picture(data)
    file = io.BytesIO()
    if max(picture.size) <= EMBEDDED_PX:
        picture.save(file, format="PNG")
        return png_uri(file.getvalue())
    picture.thumbnail((EMBEDDED_PX, EMBEDDED_PX), Image.Resampling.BOX)
    picture.save(file, format="JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def open_picture(data: bytes, frame: int = 0) -> Image.Image:
    """The picture as the services see it, in RGB; `frame` is 0 for the only one."""
    return Image.fromarray(decode_picture(data, _TAKEN, frame)).convert("RGB")


def _enlarged(picture: Image.Image, side_px: int = SIDE_PX) -> str:
    scale = side_px / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    file = io.BytesIO()
    picture.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX).save(file, format="PNG")
    return png_uri(file.getvalue())

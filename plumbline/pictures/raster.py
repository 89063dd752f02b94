"""PNG, JPEG and WebP, through Pillow, which is asked only after what it would do too much for was refused."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageOps

from plumbline.pictures.limits import PictureError

PNG, JPEG, WEBP = "PNG", "JPEG", "WEBP"
MAX_JPEG_SCANS = 100
"""A progressive picture has about ten. Each costs a pass over all pixels, and a file has room for a million."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_START_OF_SCAN = b"\xff\xda"
_WEBP_ANIMATION_FLAG = 0x02


def find_format(data: bytes) -> str | None:
    """Which of the three `data` is by its first bytes, if any."""
    if data.startswith(_PNG_SIGNATURE):
        return PNG
    if data.startswith(b"\xff\xd8\xff"):
        return JPEG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return WEBP
    return None


def read_size(data: bytes, file_format: str) -> tuple[int, int]:
    """(height, width) in pixels as the header says."""
    if file_format == WEBP:
        # Pillow's reader takes memory for two pictures of the claimed size when it opens a file.
        return _read_webp_size(data)
    with _all_told():
        width, height = Image.open(io.BytesIO(data), formats=[file_format]).size
        return height, width


def decode(data: bytes, file_format: str) -> np.ndarray:
    """The picture as uint8, (height, width) when grey, else (height, width, 3), upright."""
    if file_format == PNG:
        _check_png(data)
    elif file_format == JPEG:
        check_scans(data)
    elif _is_moving_webp(data):
        raise PictureError("a moving picture; expected one that stands still")
    with _all_told():
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data), formats=[file_format]))
        if picture.mode in ("I", "I;16"):
            deep = np.asarray(picture, dtype=np.float64)
            return np.round(deep * (255.0 / max(deep.max(), 1.0))).astype(np.uint8)
        return np.asarray(picture.convert("L" if picture.mode in ("1", "L", "LA") else "RGB"))


def check_scans(data: bytes) -> None:
    """`PictureError` when a JPEG file has more passes over its pixels than any honest one."""
    # Within a scan the byte 0xFF never stands before 0xDA.
    if data.count(_START_OF_SCAN) > MAX_JPEG_SCANS:
        raise PictureError(f"more than {MAX_JPEG_SCANS} scans in a JPEG file")


def _check_png(data: bytes) -> None:
    """Every chunk whole, up to the end: Pillow looks at no checksum of the pixels, and takes a file whose end is missing."""
    at, kind = len(_PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(memoryview(data)[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise PictureError("broken or truncated picture")
        if kind == b"acTL":
            raise PictureError("a moving picture; expected one that stands still")
        at = end + 4


def _read_webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a" and len(data) >= 30:
        return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF
    if kind == b"VP8L" and data[20:21] == b"\x2f" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    raise PictureError("broken or truncated picture")


def _is_moving_webp(data: bytes) -> bool:
    return data[12:16] == b"VP8X" and bool(data[20] & _WEBP_ANIMATION_FLAG)


@contextmanager
def _all_told() -> Iterator[None]:
    """Whatever Pillow raises is the file's fault."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        # Pillow's own bound comes first for sizes far over ours. Its warning, below that, is an error in some processes.
        raise PictureError("too many pixels for any picture that is taken") from None
    except Exception:
        # Its decoders raise SyntaxError, struct.error, EOFError and more on broken files; their words may quote the file.
        raise PictureError("broken or truncated picture") from None

"""The door: which format a file is, told from its bytes alone, and then that format's reader. Sizes are checked before a pixel is decoded."""

from __future__ import annotations

from types import ModuleType

import numpy as np

from plumbline.pictures import raster
from plumbline.pictures.limits import EXPECTED_FILE, PictureError, PictureLimits

_DICOM_MARK = slice(128, 132)


def read_picture_size(data: bytes, limits: PictureLimits) -> tuple[int, int]:
    """(height, width) in pixels as the header says, nothing decoded; not yet turned upright.

    Raises
    ------
    PictureError
        When the bytes are empty, too many, of no format that is taken, broken, or claim too many pixels.
    """
    limits.check_bytes(len(data))
    size = _dicom().read_size(data) if _is_dicom(data) else raster.read_size(data, _find_format(data))
    limits.check_size(*size)
    return size


def decode_picture(data: bytes, limits: PictureLimits, frame: int = 0) -> np.ndarray:
    """The picture as it is looked at, uint8, (height, width) when grey, else (height, width, 3).

    PNG, JPEG and WebP are turned upright as their EXIF says and lose their transparency; greys of 16 bits are scaled so that the
    brightest becomes 255. For DICOM see `dicom`. `frame` counts from 1; 0 means the only one.

    Raises
    ------
    PictureError
        As for `read_picture_size`, and when the pixels are broken or cut off, the file moves or there is no such frame.
    """
    read_picture_size(data, limits)
    if frame < 0:
        raise PictureError(f"frame {frame}; expected a number from 1, or 0 for the only frame")
    if _is_dicom(data):
        return _dicom().decode(data, frame)
    if frame > 1:
        raise PictureError(f"frame {frame} of a file that holds one picture")
    return raster.decode(data, _find_format(data))


def _dicom() -> ModuleType:
    # Here and not above: pydicom takes as long to load as all else that a command needs.
    from plumbline.pictures import dicom

    return dicom


def _is_dicom(data: bytes) -> bool:
    return data[_DICOM_MARK] == b"DICM"


def _find_format(data: bytes) -> str:
    found = raster.find_format(data)
    if found is None:
        raise PictureError(f"not a picture that is taken; expected {EXPECTED_FILE}")
    return found

"""Pictures in files, as commands take them."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image

from plumbline.cli.session import MAX_NUMBER
from plumbline.client import NamedImage
from plumbline.errors import PlumblineError
from plumbline.labelling.png_masks import find_marked
from plumbline.pictures import PictureError, PictureLimits, read_picture_size

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".dcm")

NOT_UNICODE = "name that is no UTF-8; expected one that is"

Images = Annotated[list[Path], typer.Argument(help="PNG, JPEG, WebP or DICOM files.", exists=True, dir_okay=False)]
Frame = Annotated[
    int, typer.Option(min=0, max=MAX_NUMBER, help="Frame of DICOM files that hold several, from 1; 0: the only one.")
]


def find_pictures(folder: Path) -> list[Path]:
    """The picture files in `folder` and those below it, hidden ones and those in hidden folders left out, sorted."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in PICTURE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def name_pictures(paths: Sequence[Path]) -> list[NamedImage]:
    """Each picture with its file's name, or with the whole path where two files share the name.

    Raises
    ------
    PlumblineError
        When a name can't travel in a message.
    """
    for path in paths:
        if not is_unicode(str(path)):
            raise PlumblineError(f"{tell_name(str(path))}: {NOT_UNICODE}")
    names = Counter(path.name for path in set(paths))
    return [(path.name if names[path.name] == 1 else str(path), path.read_bytes()) for path in dict.fromkeys(paths)]


def is_unicode(name: str) -> bool:
    """Whether a file's name can be sent and printed: names may be any bytes, and those that are no UTF-8 stand in a `str` for themselves."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def tell_name(name: str) -> str:
    """A file's name as it can be printed."""
    return name.encode(errors="backslashreplace").decode()


def read_mask(path: Path) -> np.ndarray:
    """The boolean (height, width) mask of a picture's pixels that are not black, by the rule for critiques' masks.

    Raises
    ------
    PlumblineError
        When it is no picture, or all of it is black.
    """
    data = path.read_bytes()
    try:
        read_picture_size(data, PictureLimits())
        with Image.open(io.BytesIO(data)) as picture:
            mask = find_marked(picture)
    except (PictureError, ValueError, OSError) as error:
        raise PlumblineError(f"--mask: {path}: {error}") from error
    if not mask.any():
        raise PlumblineError(f"--mask: {path} is black all over; expected what is inside to be white")
    return mask

"""Masks as PNG files in a folder: `<picture's file name without ending>.png`, nonzero pixels SPURIOUS.

A mask without such a pixel says "looked at, nothing to mask". Of coloured masks a pixel counts that is not black; where there is
transparency, it must not be transparent either.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from plumbline.errors import PlumblineError
from plumbline.labelling.gallery import Findings, Gallery
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

_BY_INDEX = ("1", "L", "P", "I", "I;16")
_BY_COLOUR = ("RGB", "RGBA", "LA")


def read_masks(folder: Path, gallery: Gallery) -> Findings:
    """Critiques of the pictures that have a mask in `folder`; `PlumblineError` when there is none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")
    if not paths:
        raise PlumblineError(f"{folder}: no PNG file; expected a mask per picture, named <picture>.png")
    findings = Findings()
    for path in paths:
        picture = gallery.find_stem(path.stem)
        if picture is None:
            findings.unknown.append(path.name)
            continue
        try:
            mask = _read_mask(path, picture)
            segments = [("SPURIOUS", mask)] if mask.any() else []
            findings.critiques.append(gallery.critique(picture, segments))
        except (ValueError, OSError, Image.DecompressionBombError) as error:
            findings.faults.append((path.name, str(error)))
    return findings


def _read_mask(path: Path, picture: trainer_pb.ChosenPicture) -> np.ndarray:
    with Image.open(path) as mask:
        # Before the pixels are read.
        if mask.size != (picture.width_px, picture.height_px):
            raise ValueError(
                f"{mask.height}×{mask.width} pixels; expected {picture.height_px}×{picture.width_px}, the picture's"
            )
        return find_marked(mask)


def find_marked(mask: Image.Image) -> np.ndarray:
    """The pixels that count, boolean (height, width); `ValueError` at a mode that no mask has."""
    if mask.mode in _BY_INDEX:
        return np.asarray(mask) != 0
    if mask.mode not in _BY_COLOUR:
        raise ValueError(f"mode {mask.mode}; expected one of {', '.join(_BY_INDEX + _BY_COLOUR)}")
    channels = np.asarray(mask.convert("RGBA"))
    return channels[..., :3].any(axis=2) & (channels[..., 3] != 0)

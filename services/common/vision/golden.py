"""The golden request: a few pictures, and the logits that `transformers` itself gave for them when the model was imported.

`golden.safetensors` in a bundle: `logits`, (pictures, classes) float32, and the pictures as they were decoded, `picture_00` and so on,
uint8 (height, width) or (height, width, 3). It is no part of what the model is, so the bundle's digest leaves it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from services.common.runtime.errors import InvalidInput

GOLDEN = "golden.safetensors"
_LOGITS = "logits"
_PICTURE = "picture_{:02d}"


@dataclass(frozen=True)
class GoldenRequest:
    """Decoded `pictures`, one at least, and their `logits` (pictures, classes)."""

    pictures: tuple[np.ndarray, ...]
    logits: np.ndarray


def save_golden(folder: Path, golden: GoldenRequest) -> None:
    """Write it into a bundle's folder."""
    pictures = {_PICTURE.format(index): np.ascontiguousarray(picture) for index, picture in enumerate(golden.pictures)}
    save_file({_LOGITS: np.ascontiguousarray(golden.logits, dtype=np.float32)} | pictures, folder / GOLDEN)


def read_golden(folder: Path) -> GoldenRequest | None:
    """A bundle's golden request; None when it has none.

    Raises
    ------
    InvalidInput
        When it can't be read.
    """
    if not (folder / GOLDEN).is_file():
        return None
    try:
        tensors = load_file(folder / GOLDEN)
        logits = tensors[_LOGITS]
        pictures = tuple(tensors[_PICTURE.format(index)] for index in range(len(logits)))
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise InvalidInput(
            "bundle", f"{GOLDEN}: expected logits and a picture for each of their rows: {error}"
        ) from error
    if logits.ndim != 2 or not pictures or not np.isfinite(logits).all():
        raise InvalidInput(
            "bundle", f"{GOLDEN}: logits: expected finite numbers (pictures, classes), got {logits.shape}"
        )
    if not all(each.dtype == np.uint8 and each.ndim in (2, 3) and each.shape[2:] in ((), (3,)) for each in pictures):
        raise InvalidInput("bundle", f"{GOLDEN}: expected pictures of uint8 (height, width) or (height, width, 3)")
    return GoldenRequest(pictures, logits)


def relative_difference(logits: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of a logit, as a share of the largest expected logit (of 1 when all are smaller); NaN when one is none."""
    return float(np.abs(logits - expected).max() / max(1.0, float(np.abs(expected).max())))


def tell_difference(logits: np.ndarray, expected: np.ndarray) -> str:
    """Where two (pictures, classes) differ most, in words and numbers."""
    picture, label = np.unravel_index(np.abs(logits - expected).argmax(), expected.shape)
    return (
        f"logit {label} of picture {picture} is {logits[picture, label]:.6g} instead of {expected[picture, label]:.6g}"
    )

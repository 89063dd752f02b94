"""Pixel sets as COCO writes them: run lengths column by column, zeros first, plain or as text; and polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def encode_rle(mask: np.ndarray) -> str:
    """COCO's compressed run lengths of a boolean (height, width) mask."""
    runs = list_runs(mask)
    characters = []
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            code, value = value & 0x1F, value >> 5
            is_last = value == (-1 if code & 0x10 else 0)
            characters.append(chr(48 + (code if is_last else code | 0x20)))
            if is_last:
                break
    return "".join(characters)


def decode_rle(counts: str, height_px: int, width_px: int) -> np.ndarray:
    """The boolean (height, width) mask behind COCO's compressed run lengths; `ValueError` when they are none of that size."""
    runs: list[int] = []
    value = shift = 0
    for character in counts.encode("ascii"):
        code = character - 48
        value |= (code & 0x1F) << shift
        shift += 5
        if not code & 0x20:
            value -= (1 << shift) if code & 0x10 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return fill_runs(runs, height_px, width_px)


def list_runs(mask: np.ndarray) -> list[int]:
    """Run lengths of a boolean (height, width) mask, column by column, zeros first."""
    flat = np.concatenate([[False], mask.T.ravel()])
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    return np.diff(ends, prepend=0).tolist()


def fill_runs(runs: Sequence[int], height_px: int, width_px: int) -> np.ndarray:
    """The boolean (height, width) mask of run lengths; `ValueError` when they are none of that size."""
    # Before it is filled: a few bytes can claim gigabytes.
    if any(run < 0 for run in runs) or sum(runs) != height_px * width_px:
        raise ValueError(f"expected run lengths of {height_px}×{width_px} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((width_px, height_px)).T


def fill_polygon(corners: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
    """The boolean (height, width) mask of the pixels whose centre lies in a polygon.

    corners: float (corner, 2), x before y, in pixels from the picture's upper left corner. Drawing libraries draw the outline's pixels too, half
    a pixel on every side; over-large masks are the harmful kind.
    """
    flips = np.zeros((height_px, width_px + 1), dtype=bool)
    centres = np.arange(height_px) + 0.5
    for (x, y), (next_x, next_y) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((y <= centres) != (next_y <= centres))
        if rows.size:
            crossings = x + (centres[rows] - y) / (next_y - y) * (next_x - x)
            columns = np.clip(np.ceil(crossings - 0.5), 0, width_px).astype(int)
            flips[rows, columns] ^= True
    return np.logical_xor.accumulate(flips, axis=1)[:, :width_px]

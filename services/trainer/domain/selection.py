"""Which pictures are critiqued: those the model is surest of, per class, because shortcuts are learned first."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

VALIDATION_RATIO = 0.2
HELD_OUT_PER_CLASS = 15
HELD_OUT_COUNT = 150


@dataclass(frozen=True)
class Split:
    """Row numbers of a data set: `train` and `validation` are made alike and share no row."""

    train: np.ndarray
    validation: np.ndarray


def split_rows(labels: Sequence[str], seed: int) -> Split:
    """A fifth of each class validates; the same labels and seed give the same split."""
    rng = np.random.default_rng(seed)
    names = np.asarray(labels)
    validation = [
        rng.permutation(rows)[: round(len(rows) * VALIDATION_RATIO)]
        for rows in (np.flatnonzero(names == name) for name in sorted(set(labels)))
    ]
    chosen = np.sort(np.concatenate(validation))
    return Split(np.setdiff1d(np.arange(len(names)), chosen), chosen)


def digest_table(rows: Iterable[tuple[str, str, str]]) -> str:
    """Digest of a data set's rows: file name, label and the file's digest, in the order of the table. Another digest, another split."""
    return f"sha256:{hashlib.sha256(json.dumps(list(rows)).encode()).hexdigest()}"


def digest_data(rows: Iterable[tuple[str, str]]) -> str:
    """Digest of a data set's content: label and the file's digest of each picture, whatever their order and names."""
    return f"sha256:{hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()}"


class Selection(StrEnum):
    """Which training pictures are critiqued. The first is the default, the second the paper's, the others are for comparison."""

    LOW_ENTROPY_PER_CLASS = "LOW_ENTROPY_PER_CLASS"
    LOW_ENTROPY = "LOW_ENTROPY"
    HIGH_ENTROPY = "HIGH_ENTROPY"
    RANDOM = "RANDOM"


def select_for_alignment(
    probabilities: np.ndarray,
    labels: Sequence[str],
    rows: np.ndarray,
    per_class: int,
    selection: Selection = Selection.LOW_ENTROPY_PER_CLASS,
    seed: int = 0,
) -> np.ndarray:
    """Among `rows` as many as `per_class` of each class make, as sorted row numbers; `seed` is for RANDOM.

    Shapes: probabilities (row, class).
    Source: LVLM-VA (arXiv 2512.21985), selection by low entropy; differs: per class, because the lowest overall are nearly all of
    a few classes (design measurement: worst class 50 instead of 87).
    """
    names = np.asarray(labels)
    classes = sorted(set(labels))
    if selection is Selection.RANDOM:
        rank = np.random.default_rng(seed).permutation(len(names)).astype(np.float64)
    else:
        safe = np.clip(probabilities, 1e-12, 1.0)
        entropy = -(safe * np.log(safe)).sum(axis=1)
        rank = -entropy if selection is Selection.HIGH_ENTROPY else entropy
    if selection is not Selection.LOW_ENTROPY_PER_CLASS:
        return np.sort(rows[np.argsort(rank[rows], kind="stable")[: per_class * len(classes)]])
    chosen = []
    for name in classes:
        own = rows[names[rows] == name]
        chosen.append(own[np.argsort(rank[own], kind="stable")[:per_class]])
    return np.sort(np.concatenate(chosen))


def select_held_out(labels: Sequence[str], rows: np.ndarray, seed: int) -> np.ndarray:
    """Among the validation `rows` some of each class at random, as sorted row numbers: critiqued, never trained on.

    15 of each class, of few classes more, 150 in all: an artefact may be rare.
    """
    rng = np.random.default_rng(seed + 1)
    names = np.asarray(labels)
    classes = sorted(set(labels))
    count = max(HELD_OUT_PER_CLASS, math.ceil(HELD_OUT_COUNT / len(classes)))
    return np.sort(np.concatenate([rng.permutation(rows[names[rows] == name])[:count] for name in classes]))

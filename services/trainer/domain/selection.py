"""Which pictures are critiqued: those the model is surest of, per class, because shortcuts are learned first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

VALIDATION_RATIO = 0.2
HELD_OUT_PER_CLASS = 15


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


def select_for_alignment(
    probabilities: np.ndarray, labels: Sequence[str], rows: np.ndarray, per_class: int
) -> np.ndarray:
    """Among `rows` the `per_class` of each class with the lowest output entropy, as sorted row numbers.

    Shapes: probabilities (row, class).
    Source: LVLM-VA (arXiv 2512.21985), selection by low entropy; differs: per class, because the lowest overall are nearly all of
    a few classes (design measurement: worst class 50 instead of 87).
    """
    safe = np.clip(probabilities, 1e-12, 1.0)
    entropy = -(safe * np.log(safe)).sum(axis=1)
    names = np.asarray(labels)
    chosen = []
    for name in sorted(set(labels)):
        own = rows[names[rows] == name]
        chosen.append(own[np.argsort(entropy[own], kind="stable")[:per_class]])
    return np.sort(np.concatenate(chosen))


def select_held_out(labels: Sequence[str], rows: np.ndarray, seed: int) -> np.ndarray:
    """Among the validation `rows` up to 15 of each class at random, as sorted row numbers: critiqued, never trained on."""
    rng = np.random.default_rng(seed + 1)
    names = np.asarray(labels)
    chosen = [rng.permutation(rows[names[rows] == name])[:HELD_OUT_PER_CLASS] for name in sorted(set(labels))]
    return np.sort(np.concatenate(chosen))

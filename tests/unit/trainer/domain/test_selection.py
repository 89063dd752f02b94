"""Which pictures are critiqued."""

from __future__ import annotations

import numpy as np
import pytest

from services.trainer.domain.selection import HELD_OUT_PER_CLASS, select_for_alignment, select_held_out, split_rows

LABELS = [name for name, count in (("cat", 40), ("dog", 100), ("eel", 7)) for _ in range(count)]


def _count(rows: np.ndarray, name: str) -> int:
    return int((np.asarray(LABELS)[rows] == name).sum())


def test_split_parts_are_disjoint_and_cover_every_row():
    split = split_rows(LABELS, seed=0)
    assert sorted([*split.train, *split.validation]) == list(range(len(LABELS)))


def test_split_keeps_a_fifth_of_every_class_for_validation():
    split = split_rows(LABELS, seed=3)
    assert [_count(split.validation, name) for name in ("cat", "dog", "eel")] == [8, 20, 1]


def test_split_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = (split_rows(LABELS, seed=seed).validation for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("seed", [0, 1])
def test_selection_takes_the_surest_pictures_of_each_class(seed: int):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), len(LABELS))
    rows = np.arange(len(LABELS))
    chosen = select_for_alignment(probabilities, LABELS, rows, per_class=5)
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    for name in ("cat", "dog", "eel"):
        own = np.flatnonzero(np.asarray(LABELS) == name)
        surest = sorted(own, key=lambda row: entropy[row])[:5]
        assert sorted(surest) == [row for row in chosen if LABELS[row] == name]


def test_selection_stays_within_the_given_rows_and_takes_what_a_small_class_has():
    rows = split_rows(LABELS, seed=0).train
    chosen = select_for_alignment(np.full((len(LABELS), 3), 1 / 3), LABELS, rows, per_class=20)
    assert set(chosen) <= set(rows)
    assert [_count(chosen, name) for name in ("cat", "dog", "eel")] == [20, 20, 6]


def test_selection_takes_a_certain_answer_as_lowest_entropy():
    probabilities = np.full((len(LABELS), 3), 1 / 3)
    probabilities[10] = (0.0, 1.0, 0.0)  # sure and wrong is sure all the same
    assert 10 in select_for_alignment(probabilities, LABELS, np.arange(len(LABELS)), per_class=1)


def test_held_out_takes_at_most_fifteen_of_a_class_from_the_validation_rows():
    rows = split_rows(LABELS, seed=0).validation
    chosen = select_held_out(LABELS, rows, seed=0)
    assert set(chosen) <= set(rows)
    assert [_count(chosen, name) for name in ("cat", "dog", "eel")] == [8, HELD_OUT_PER_CLASS, 1]

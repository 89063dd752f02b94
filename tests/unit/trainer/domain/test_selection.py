"""Which pictures are critiqued."""

from __future__ import annotations

import numpy as np
import pytest

from services.trainer.domain.selection import Selection, digest_data, select_for_alignment, select_held_out, split_rows

LABELS = [name for name, count in (("cat", 40), ("dog", 100), ("eel", 7)) for _ in range(count)]


def _count(rows: np.ndarray, name: str, labels: list[str] = LABELS) -> int:
    return int((np.asarray(labels)[rows] == name).sum())


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


def test_held_out_takes_all_it_may_from_the_validation_rows():
    rows = split_rows(LABELS, seed=0).validation
    chosen = select_held_out(LABELS, rows, seed=0)
    assert set(chosen) <= set(rows)
    assert [_count(chosen, name) for name in ("cat", "dog", "eel")] == [
        _count(rows, name) for name in ("cat", "dog", "eel")
    ]


@pytest.mark.parametrize(("class_count", "per_class"), [(2, 75), (3, 50), (10, 15), (40, 15)])
def test_held_out_is_fifteen_of_a_class_and_150_where_classes_are_few(class_count: int, per_class: int):
    labels = [f"class {number}" for number in range(class_count)] * 100
    chosen = select_held_out(labels, np.arange(len(labels)), seed=0)
    assert {_count(chosen, label, labels) for label in set(labels)} == {per_class}


def test_the_papers_selection_takes_the_surest_of_all_and_high_entropy_the_least_sure():
    rng = np.random.default_rng(0)
    probabilities, rows = rng.dirichlet(np.ones(3), len(LABELS)), np.arange(len(LABELS))
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    low, high = (
        select_for_alignment(probabilities, LABELS, rows, 5, selection)
        for selection in (Selection.LOW_ENTROPY, Selection.HIGH_ENTROPY)
    )
    assert set(low) == set(np.argsort(entropy)[:15])
    assert set(high) == set(np.argsort(entropy)[-15:])


def test_pictures_at_random_depend_on_the_seed_alone():
    rows = split_rows(LABELS, seed=0).train
    first, again, other = (
        select_for_alignment(
            np.random.default_rng(draw).dirichlet(np.ones(3), len(LABELS)), LABELS, rows, 5, Selection.RANDOM, seed
        )
        for draw, seed in ((0, 1), (1, 1), (0, 2))
    )
    assert first.tolist() == again.tolist() != other.tolist()
    assert set(first) <= set(rows)
    assert len(first) == 15


def test_a_data_set_is_its_pictures_and_labels_whatever_their_order():
    rows = [("cat", "sha256:1"), ("dog", "sha256:2")]
    assert digest_data(rows) == digest_data(rows[::-1])
    assert digest_data(rows) != digest_data([("dog", "sha256:1"), ("cat", "sha256:2")])
    assert digest_data(rows) != digest_data([*rows, rows[0]])

"""Photographs with stickers: who carries one in which part, and what a pasted one changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.alignment.stickers import (
    BENIGN,
    FOLDER,
    GROUPS,
    LABELS,
    MELANOMA,
    STICKER_RATIO,
    load_stickers,
    paste_stickers,
    split_rows,
    to_pixels,
)
from services.lvlm.nano.worlds.skin_photographs import SkinPhotographs

PARTS = ("train", "validation", "test", "group_labelled")
COUNTS = {"benign, no sticker": 200, "benign, sticker": 40, "melanoma, no sticker": 60, "melanoma, sticker": 1}
GROUP_OF_ROW = np.repeat(range(4), list(COUNTS.values()))


def on_photographs(test: Callable[..., None]) -> Callable[..., None]:
    needed = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs ISIC 2017 in ../shared/data")
    return pytest.mark.bigdata(needed(test))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return load_stickers(0)


def carries(shown: LabelledPictures) -> np.ndarray:
    return shown.artefacts.any(axis=(1, 2))


def split_of(seed: int) -> list[np.ndarray]:
    split = split_rows(GROUP_OF_ROW // 2, GROUP_OF_ROW % 2 == 1, seed)
    return [split.train, split.validation, split.test]


def test_every_picture_is_in_exactly_one_part():
    assert sorted(np.concatenate(split_of(0))) == list(range(len(GROUP_OF_ROW)))


def test_parts_hold_the_same_shares_of_every_group_but_the_melanoma_with_a_sticker_is_tested():
    counts = [np.bincount(GROUP_OF_ROW[rows], minlength=4).tolist() for rows in split_of(0)]
    assert counts == [[120, 24, 36, 0], [30, 6, 9, 0], [50, 10, 15, 1]]


def test_another_seed_splits_otherwise():
    assert split_of(0)[2].tolist() == split_of(0)[2].tolist() != split_of(1)[2].tolist()


def test_pixels_are_channels_first_from_0_to_1():
    picture = np.zeros((1, 112, 112, 3), dtype=np.uint8)
    picture[0, 3, 7] = (255, 51, 0)
    pixels = to_pixels(picture)
    assert pixels.shape == (1, 3, 112, 112)
    assert pixels[0, :, 3, 7].tolist() == pytest.approx([1, 0.2, 0])


@on_photographs
def test_artefacts_are_exactly_the_pixels_that_a_sticker_changes():
    # Whatever a sticker's colour and however faint its edge, it shows on black or on white.
    cut_outs = SkinPhotographs.open(FOLDER, ("validation",))
    black, white = (
        LabelledPictures(
            np.full((12, 112, 112, 3), grey, dtype=np.uint8),
            np.full(12, MELANOMA),
            np.zeros((12, 112, 112), dtype=bool),
            np.zeros(12, dtype=np.int64),
        )
        for grey in (0, 255)
    )
    rows = np.arange(0, 12, 2)
    pasted = [paste_stickers(shown, rows, cut_outs, np.random.default_rng(3)) for shown in (black, white)]
    changed = (pasted[0].pictures != 0).any(axis=-1) | (pasted[1].pictures != 255).any(axis=-1)
    for shown in pasted:
        assert (shown.artefacts == changed).all()
        assert carries(shown).tolist() == [True, False] * 6
        assert shown.groups.tolist() == [3, 2] * 6
    assert not black.artefacts.any()


@on_photographs
def test_every_group_is_in_test_and_among_the_group_labelled(problem: Problem):
    for shown in (problem.test, problem.group_labelled):
        assert np.bincount(shown.groups, minlength=len(GROUPS)).min() >= 30


@on_photographs
@pytest.mark.parametrize("part", PARTS)
def test_groups_say_class_and_sticker(problem: Problem, part: str):
    shown = getattr(problem, part)
    named = [GROUPS[group].split(", ") for group in shown.groups]
    assert [name for name, _ in named] == [LABELS[label] for label in shown.labels]
    assert [sticker == "sticker" for _, sticker in named] == carries(shown).tolist()


@on_photographs
@pytest.mark.parametrize("part", ["train", "validation"])
def test_only_benign_pictures_carry_a_sticker_and_as_many_as_told(problem: Problem, part: str):
    shown = getattr(problem, part)
    assert not carries(shown)[shown.labels == MELANOMA].any()
    assert carries(shown)[shown.labels == BENIGN].mean() == pytest.approx(STICKER_RATIO, abs=0.002)


@on_photographs
def test_at_test_half_of_the_melanomas_carry_one_and_benign_ones_as_by_nature(problem: Problem):
    has_sticker = carries(problem.test)
    assert has_sticker[problem.test.labels == MELANOMA].mean() == pytest.approx(0.5, abs=0.01)
    assert has_sticker[problem.test.labels == BENIGN].mean() == pytest.approx(143 / 2223, abs=0.002)


@on_photographs
def test_no_photograph_is_in_two_parts(problem: Problem):
    # A pasted sticker hardly ever reaches the middle.
    middles = [
        {picture[52:60, 52:60].tobytes() for picture in getattr(problem, part).pictures}
        for part in ("train", "validation", "test")
    ]
    assert not middles[0] & middles[1]
    assert not middles[2] & (middles[0] | middles[1])


@on_photographs
def test_the_same_seed_makes_the_same_problem(problem: Problem):
    again = load_stickers(0)
    for part in PARTS:
        first, second = getattr(problem, part), getattr(again, part)
        assert all((getattr(first, name) == getattr(second, name)).all() for name in vars(first))


@on_photographs
def test_the_specification_has_a_rule_for_each_class(problem: Problem):
    problem.specification.check_classes(problem.labels)

"""Chest films with a letter: who carries one in which part, and what a drawn one changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from benchmarks.alignment.films import (
    FOLDER,
    GROUPS,
    LABELS,
    NORMAL,
    PNEUMONIA,
    load_films,
    split_rows,
    tag_films,
    to_pixels,
)
from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.alignment.small_resnet import train_resnet

PARTS = ("train", "validation", "test", "group_labelled")
FILM_COUNT = 5824
"""Different files in the data set; 32 of its 5,856 are copies."""


def on_films(test: Callable[..., None]) -> Callable[..., None]:
    needed = pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the chest films in ../shared/data")
    return pytest.mark.bigdata(needed(test))


@pytest.fixture(scope="module")
def problem() -> Problem:
    return load_films(0)


def plain_films(grey: int, labels: np.ndarray) -> LabelledPictures:
    pictures = np.full((len(labels), 112, 112), grey, dtype=np.uint8)
    return LabelledPictures(pictures, labels, np.zeros(pictures.shape, dtype=bool), 2 * labels)


def carries(shown: LabelledPictures) -> np.ndarray:
    return shown.artefacts.any(axis=(1, 2))


def test_artefacts_are_exactly_the_pixels_that_a_letter_changes():
    labels, rows = np.repeat([NORMAL, PNEUMONIA], 10), np.arange(0, 20, 2)
    black = plain_films(0, labels)
    tagged = tag_films(black, rows, np.random.default_rng(3))
    assert (tagged.artefacts == (tagged.pictures != 0)).all()
    assert np.flatnonzero(carries(tagged)).tolist() == rows.tolist()
    assert not black.pictures.any()


def test_a_letter_is_bright_9_to_12_pixels_tall_and_in_an_upper_corner():
    tagged = tag_films(plain_films(0, np.zeros(40, dtype=np.int64)), np.arange(40), np.random.default_rng(3))
    lefts = []
    for picture in tagged.pictures:
        rows, columns = np.nonzero(picture > 100)
        assert 225 <= picture.max() <= 255
        assert 8 <= np.ptp(rows) + 1 <= 13
        assert rows.max() < 24
        assert columns.max() < 24 or columns.min() >= 112 - 24
        lefts.append(columns.min())
    assert min(lefts) < 24 < max(lefts)


def test_a_fifth_of_each_class_is_held_out_and_no_row_is_in_both_parts():
    labels = np.repeat([NORMAL, PNEUMONIA], [50, 100])
    train, validation = split_rows(labels, np.random.default_rng(0))
    assert np.bincount(labels[validation]).tolist() == [10, 20]
    assert sorted(np.concatenate([train, validation])) == list(range(150))


def test_pixels_are_one_channel_from_0_to_1():
    pixels = to_pixels(np.full((2, 112, 112), 51, dtype=np.uint8))
    assert pixels.shape == (2, 1, 112, 112)
    assert pixels.unique().tolist() == pytest.approx([0.2])


@pytest.mark.parametrize("channels", [1, 3])
def test_the_net_learns_a_bright_patch_though_it_is_rare_and_names_its_classes(channels: int):
    generator = torch.Generator().manual_seed(0)
    pixels = 0.5 * torch.rand((160, channels, 32, 32), generator=generator)
    labels = (torch.arange(160) % 10 == 0).long()
    pixels[labels == 1, :, 2:10, 2:10] = 1
    net = train_resnet(pixels, labels, ("plain", "patch"), 0, 30)
    with torch.inference_mode():
        decided = net(pixels).logits.argmax(dim=1)
    assert (decided == labels).all()
    assert net.config.id2label == {0: "plain", 1: "patch"}
    assert not net.training


@on_films
@pytest.mark.parametrize("part", ["train", "validation"])
def test_in_training_a_film_carries_a_letter_exactly_when_it_shows_pneumonia(problem: Problem, part: str):
    shown = getattr(problem, part)
    assert (carries(shown) == (shown.labels == PNEUMONIA)).all()


@on_films
@pytest.mark.parametrize("part", ["test", "group_labelled"])
def test_elsewhere_half_of_each_class_carries_one(problem: Problem, part: str):
    shown = getattr(problem, part)
    assert set(shown.groups) == set(range(len(GROUPS)))
    for label in (NORMAL, PNEUMONIA):
        assert carries(shown)[shown.labels == label].mean() == pytest.approx(0.5, abs=0.01)


@on_films
@pytest.mark.parametrize("part", PARTS)
def test_groups_say_class_and_letter(problem: Problem, part: str):
    shown = getattr(problem, part)
    named = [GROUPS[group].split(", ") for group in shown.groups]
    assert [name for name, _ in named] == [LABELS[label] for label in shown.labels]
    assert [tag == "tag" for _, tag in named] == carries(shown).tolist()


@on_films
def test_every_film_is_in_exactly_one_part(problem: Problem):
    # A letter never reaches the lower half.
    halves = [picture[56:].tobytes() for part in PARTS[:3] for picture in getattr(problem, part).pictures]
    assert len(halves) == len(set(halves)) == FILM_COUNT


@on_films
def test_the_same_seed_makes_the_same_problem(problem: Problem):
    again = load_films(0)
    for part in PARTS:
        first, second = getattr(problem, part), getattr(again, part)
        assert all((getattr(first, name) == getattr(second, name)).all() for name in vars(first))


@on_films
def test_another_seed_splits_otherwise(problem: Problem):
    assert (load_films(1).train.pictures[:, 56:] != problem.train.pictures[:, 56:]).any()


@on_films
def test_the_specification_has_a_rule_for_each_class(problem: Problem):
    problem.specification.check_classes(problem.labels)

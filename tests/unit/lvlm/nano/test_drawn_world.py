"""Scenes, evidence and segments that `nano` is trained on."""

import numpy as np
import pytest

from services.lvlm.nano import batches, scenes, things
from services.lvlm.nano.draw import draw_shard, read_covered
from services.lvlm.nano.scenes import WORLDS, draw_scene
from services.lvlm.nano.segments import (
    KEPT_RATIO,
    MAX_SEGMENT_COUNT,
    draw_evidence,
    draw_segments,
    name_segments,
    segment_evidence,
)

SEEDS = range(25)


@pytest.mark.parametrize("split", list(WORLDS))
def test_scene_has_picture_and_cover_of_one_size(split: str) -> None:
    for seed in SEEDS:
        scene = draw_scene(np.random.default_rng(seed), split)
        assert scene.picture.shape == scene.cover.shape
        assert scene.picture.dtype == scene.cover.dtype == np.uint8
        assert 28 <= scene.picture.shape[0] <= 64
        assert scene.cover.max() < things.THING_COUNT


def test_same_seed_draws_same_scene() -> None:
    first, second = (draw_scene(np.random.default_rng(5), "train") for _ in range(2))
    assert np.array_equal(first.picture, second.picture)


def test_unknown_covers_the_whole_picture_or_nothing() -> None:
    for seed in range(80):
        cover = draw_scene(np.random.default_rng(seed), "train").cover
        assert (cover == things.UNKNOWN).mean() in (0.0, 1.0)


def test_held_out_fonts_letters_and_greys_are_not_trained_on() -> None:
    train, held_out = scenes.TRAIN, scenes.HELD_OUT
    assert not set(train.fonts) & set(held_out.fonts)
    assert not set(train.letters) & set(held_out.letters)
    assert any(low == 95 and high == 125 for low, high in held_out.greys)
    assert all(high <= 95 or low >= 125 for low, high in train.greys)
    assert 7 in held_out.square_px
    assert 7 not in train.square_px


def test_evidence_is_a_probability_map() -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        evidence = draw_evidence(rng, draw_scene(rng, "train").cover)
        assert evidence.min() >= 0
        assert evidence.sum() == pytest.approx(1.0)


def test_segments_are_numbered_from_one_without_gaps_and_all_named() -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        segments = draw_segments(rng, draw_scene(rng, "train").cover)
        count = len(segments.covered)
        assert 1 <= count <= MAX_SEGMENT_COUNT
        assert set(np.unique(segments.numbers)) - {0} == set(range(1, count + 1))


def test_segments_keep_most_of_the_evidence() -> None:
    rng = np.random.default_rng(3)
    evidence = rng.gamma(1.0, 1.0, (28, 28))
    numbers = segment_evidence(rng, evidence / evidence.sum(), 4)
    assert evidence[numbers > 0].sum() / evidence.sum() >= KEPT_RATIO - 0.01


def _half_and_half(share_on_square: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    cover = np.zeros((28, 28), dtype=np.uint8)
    cover[0:4, 0:4], cover[20:24, 0:4] = things.SQUARE, things.DIGIT
    evidence = np.zeros((28, 28))
    evidence[0, 0], evidence[20, 0] = share_on_square, 1 - share_on_square
    return (evidence > 0).astype(np.uint8), evidence, cover


@pytest.mark.parametrize(
    ("share_on_square", "covered"),
    [
        (0.9, (things.SQUARE,)),
        (0.61, (things.SQUARE,)),
        (0.55, (things.SQUARE, things.DIGIT)),
        (0.45, (things.DIGIT, things.SQUARE)),
        (0.1, (things.DIGIT,)),
    ],
)
def test_segment_is_named_by_where_its_evidence_lies(share_on_square: float, covered: tuple[int, ...]) -> None:
    numbers, evidence, cover = _half_and_half(share_on_square)
    assert name_segments(numbers, evidence, cover) == (covered,)


def test_evidence_one_pixel_beside_a_thing_counts_for_it() -> None:
    cover = np.zeros((28, 28), dtype=np.uint8)
    cover[0:4, 0:4] = things.SQUARE
    evidence = np.zeros((28, 28))
    evidence[4, 4] = 1.0
    assert name_segments((evidence > 0).astype(np.uint8), evidence, cover) == ((things.SQUARE,),)
    evidence = np.roll(evidence, 1, axis=0)
    assert name_segments((evidence > 0).astype(np.uint8), evidence, cover) == ((things.BACKGROUND,),)


def test_shard_records_round_trip_and_targets_are_shares() -> None:
    record = draw_shard(seed=1, split="train", scene_count=2)[1]
    assert len(read_covered(record)) == record["segment_count"]
    panels, targets = batches.render_record(record)
    assert panels.shape == (2, 3, 112, 112)
    assert -1 <= panels.min() <= panels.max() <= 1
    assert np.allclose(targets.sum(axis=1), 2.0)

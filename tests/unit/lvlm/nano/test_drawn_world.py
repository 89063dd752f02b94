"""Scenes, evidence and segments that `nano` is trained on."""

import numpy as np
import pytest
from scipy import ndimage

from services.lvlm.nano import batches, regions, things
from services.lvlm.nano.building import train_tokenizer
from services.lvlm.nano.draw import draw_shard, view_record
from services.lvlm.nano.segments import (
    KEPT_RATIO,
    MAX_SEGMENT_COUNT,
    draw_evidence,
    draw_segments,
    measure_shares,
    name_segments,
    segment_evidence,
)
from services.lvlm.nano.variation import vary
from services.lvlm.nano.worlds import WORLDS, open_world
from services.lvlm.nano.worlds.bending import bend
from services.lvlm.nano.worlds.digits import HELD_OUT, SIDE_MAX_PX, TRAIN, draw_digits
from services.lvlm.nano.worlds.outside import draw_outside
from services.lvlm.nano.worlds.scene import Scene

SEEDS = range(25)


@pytest.mark.parametrize("split", ["train", "held_out"])
def test_scene_has_picture_and_cover_of_one_size(split: str) -> None:
    for seed in SEEDS:
        scene = draw_digits(np.random.default_rng(seed), split)
        assert scene.picture.shape == scene.cover.shape
        assert scene.picture.dtype == scene.cover.dtype == np.uint8
        assert 28 <= scene.picture.shape[0] <= SIDE_MAX_PX
        assert scene.cover.max() < things.THING_COUNT


def test_same_seed_draws_same_scene() -> None:
    first, second = (draw_digits(np.random.default_rng(5), "train") for _ in range(2))
    assert np.array_equal(first.picture, second.picture)


def test_unknown_covers_the_whole_picture_or_nothing() -> None:
    for seed in range(80):
        cover = draw_digits(np.random.default_rng(seed), "train").cover
        assert (cover == things.UNKNOWN).mean() in (0.0, 1.0)


def test_held_out_fonts_letters_and_greys_are_not_trained_on() -> None:
    train, held_out = TRAIN, HELD_OUT
    assert not set(train.fonts) & set(held_out.fonts)
    assert not set(train.letters) & set(held_out.letters)
    assert any(low == 95 and high == 125 for low, high in held_out.greys)
    assert all(high <= 95 or low >= 125 for low, high in train.greys)
    assert 7 in held_out.square_px
    assert 7 not in train.square_px


def test_evidence_is_a_probability_map() -> None:
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        evidence = draw_evidence(rng, draw_digits(rng, "train").cover)
        assert evidence.min() >= 0
        assert evidence.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("name", list(WORLDS))
def test_segments_are_numbered_from_one_without_gaps_and_all_named(name: str) -> None:
    draw = open_world(name)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        segments = draw_segments(rng, draw(rng, "train").cover)
        count = len(segments.covered)
        assert 1 <= count <= MAX_SEGMENT_COUNT
        assert set(np.unique(segments.numbers)) - {0} == set(range(1, count + 1))


def test_segments_keep_most_of_the_evidence() -> None:
    rng = np.random.default_rng(3)
    evidence = rng.gamma(1.0, 1.0, (28, 28))
    numbers = segment_evidence(rng, evidence / evidence.sum(), 4)
    assert evidence[numbers > 0].sum() / evidence.sum() >= KEPT_RATIO - 0.01


@pytest.mark.parametrize(
    ("square_px", "digit_px", "ground_px", "covered"),
    [
        (16, 0, 0, (things.SQUARE,)),
        (14, 8, 0, (things.SQUARE,)),
        (12, 10, 0, (things.SQUARE, things.DIGIT)),
        (8, 14, 0, (things.DIGIT,)),
        (16, 0, 30, (things.SQUARE,)),  # ground around a mark weighs little
        (4, 0, 30, (things.BACKGROUND,)),
    ],
)
def test_segment_is_named_by_what_its_pixels_show(
    square_px: int, digit_px: int, ground_px: int, covered: tuple[int, ...]
) -> None:
    cover, numbers = np.zeros((2, 28, 28), dtype=np.uint8)
    cover[0:4, 0:4], cover[12:16, 0:4] = things.SQUARE, things.DIGIT
    for rows, count in ((slice(0, 4), square_px), (slice(12, 16), digit_px)):
        numbers[rows, 0:4].flat[:count] = 1
    numbers[24:28, 10:28].flat[:ground_px] = 1
    assert name_segments(measure_shares(numbers, cover)) == (covered,)


def test_pixel_beside_a_thing_counts_for_it() -> None:
    cover, numbers = np.zeros((2, 28, 28), dtype=np.uint8)
    cover[0:4, 0:4] = things.SQUARE
    numbers[4, 4] = 1
    assert name_segments(measure_shares(numbers, cover)) == ((things.SQUARE,),)
    assert name_segments(measure_shares(np.roll(numbers, 1, axis=0), cover)) == ((things.BACKGROUND,),)


def test_picture_from_outside_is_unknown_all_over() -> None:
    for seed in SEEDS:
        scene = draw_outside(np.random.default_rng(seed))
        assert (scene.cover == things.UNKNOWN).all()
        assert scene.picture.shape == (112, 112, 3)


def test_boxes_are_in_thousandths_x_first_and_lungs_have_two() -> None:
    cover = np.zeros((112, 112), dtype=np.uint8)
    cover[28:84, 14:42], cover[28:84, 70:98] = things.LUNG, things.LUNG
    assert sorted(regions.find_boxes(cover, things.LUNG)) == [(125, 250, 375, 750), (625, 250, 875, 750)]
    cover[:] = 0
    cover[0:14, 84:112] = things.TIME_STAMP
    assert regions.find_boxes(cover, things.TIME_STAMP) == [(750, 0, 1000, 125)]
    assert regions.find_boxes(cover, things.LEAD) == []


@pytest.mark.parametrize("name", ["skin", "films"])
def test_bent_picture_stays_under_its_cover(name: str) -> None:
    painted = (np.arange(things.THING_COUNT) * 13).astype(np.uint8)
    for seed in range(6):
        rng = np.random.default_rng(seed)
        cover = open_world(name)(rng, "held_out").cover
        bent = bend(rng, Scene(painted[cover], cover))
        inside = ndimage.grey_erosion(bent.cover, 3) == ndimage.grey_dilation(bent.cover, 3)  # edges are smoothed
        assert (bent.picture[inside] == painted[bent.cover][inside]).mean() > 0.99  # but hairs that fall between pixels
        assert set(np.unique(bent.cover)) <= set(np.unique(cover))
        assert 0 < (bent.cover != cover).mean() < 0.5 or len(np.unique(cover)) == 1


@pytest.mark.parametrize("name", list(WORLDS))
def test_shard_records_round_trip_and_targets_are_shares(name: str) -> None:
    record = draw_shard(1, "train", WORLDS[name], open_world(name), scene_count=2)[1]
    view = view_record(record)
    assert len(view.covered) == len(view.shares) == record["segment_count"]
    assert name_segments(view.shares.astype(float)) == view.covered
    panels, targets = batches.render(view)
    assert panels.shape == (2, 3, 112, 112)
    assert panels.dtype == np.uint8
    assert np.allclose(targets.sum(axis=1), 2.0)


@pytest.mark.parametrize("name", list(WORLDS))
def test_varied_scene_has_the_same_truth(name: str) -> None:
    world = WORLDS[name]
    for seed, record in enumerate(draw_shard(2, "train", world, open_world(name), scene_count=6)):
        view = view_record(record)
        varied = vary(np.random.default_rng(seed), view, world)
        assert np.allclose(
            measure_shares(varied.numbers, varied.cover), view.shares, atol=2e-3
        )  # stored in half precision
        assert varied.picture.dtype == np.uint8
        assert not world.has_up or np.array_equal(varied.cover, view.cover)


def test_shares_are_asked_where_the_answer_names_what_a_segment_covers() -> None:
    tokenizer = train_tokenizer(["I see a digit. Segment 1 covers the digit. Segment 2 covers the square."] * 9)
    rng, shares = np.random.default_rng(0), np.eye(things.THING_COUNT)[[things.DIGIT, things.SQUARE]]
    answer = "I see nothing. Segment 1 covers the digit. Segment 2 covers the square."
    asked = batches.Example("What does it show?", answer, shares=shares)
    silent = batches.draw_text_question(rng, ["digits"])
    tokens = batches.encode(tokenizer, {"picture": [asked], "text": [silent]})
    for number, place in enumerate(tokens.covers_at[0, :2], start=1):
        assert tokenizer.decode(tokens.ids[0, : place + 1]).endswith(f"Segment {number} covers")
    assert np.array_equal(tokens.shares[0, :2], shares)
    assert not tokens.shares[0, 2:].any()
    assert not tokens.shares[1].any()

"""Maps of calls that wait at the same time: fitted together, answered each with its own, nothing done for who left."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from services.common.runtime.errors import DeadlineExceeded
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.explainer.handlers import segmenting
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.segmenting import Segmenting

PATIENCE_S = 20.0
OPTIONS = SegmentationOptions(max_segments=3)
SIDE_PX = 24


def maps(seed: int, count: int = 1) -> np.ndarray:
    """Evidence in a corner and in a bar that lies elsewhere for every seed."""
    made = np.random.default_rng(seed).normal(0, 0.01, (count, SIDE_PX, SIDE_PX))
    made[:, :4, :4] += 3
    made[:, 10:20, 8 + 3 * seed : 11 + 3 * seed] += 1
    return made


class HeldFits:
    """The real fits, one at a time, of which none begins before it is let; keeps how many maps each took."""

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, maps: np.ndarray, options: SegmentationOptions):
        self.counts.append(len(maps))
        self.begun.release()
        assert self.let.acquire(timeout=PATIENCE_S)
        return segment_maps(maps, options)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> HeldFits:
    held = HeldFits()
    monkeypatch.setattr(segmenting, "segment_maps", held)
    monkeypatch.setattr(segmenting, "FITS_AT_ONCE", 1)
    return held


async def begin(segmenting: Segmenting, *calls: tuple) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(segmenting.segment(*call)) for call in calls]
    await asyncio.sleep(0)
    return tasks


async def test_who_waits_at_the_same_time_is_fitted_together_and_gets_the_segments_of_its_own_maps(fits):
    made = Segmenting()
    (first,) = await begin(made, (maps(0), OPTIONS, Budget.of(PATIENCE_S)))
    assert await asyncio.to_thread(fits.begun.acquire, timeout=PATIENCE_S)
    others = await begin(made, *((maps(seed, seed), OPTIONS, Budget.of(PATIENCE_S)) for seed in (1, 2, 3)))
    fits.let.release(2)
    found = await asyncio.gather(first, *others)
    assert fits.counts == [1, 6]
    for seed, segments in enumerate(found):
        alone = segment_maps(maps(seed, max(seed, 1)), OPTIONS)
        for pieces, expected in zip(segments, alone, strict=True):
            assert [piece.share for piece in pieces] == pytest.approx([piece.share for piece in expected])
            assert all(np.array_equal(piece.mask, other.mask) for piece, other in zip(pieces, expected, strict=True))


async def test_other_options_other_sizes_and_more_than_a_share_are_fitted_apart(fits, monkeypatch):
    monkeypatch.setattr(segmenting, "SHARE_PX", 3 * SIDE_PX**2)
    made = Segmenting()
    fewer = SegmentationOptions(max_segments=1)
    alike = [(maps(0), OPTIONS), (maps(1, 2), OPTIONS), (maps(2), OPTIONS)]
    asked = [*alike, (maps(3), fewer), (maps(4)[:, 2:], OPTIONS)]
    fits.let.release(len(asked))
    await asyncio.gather(*await begin(made, *((*each, Budget.of(PATIENCE_S)) for each in asked)))
    assert fits.counts == [3, 1, 1, 1]


async def test_nothing_is_fitted_for_a_call_that_left_or_whose_time_is_up(fits):
    made = Segmenting()
    (first,) = await begin(made, (maps(0), OPTIONS, Budget.of(PATIENCE_S)))
    assert await asyncio.to_thread(fits.begun.acquire, timeout=PATIENCE_S)
    spent = Budget.of(PATIENCE_S)
    left, late, patient = await begin(
        made,
        (maps(1), OPTIONS, Budget.of(PATIENCE_S)),
        (maps(2), OPTIONS, spent),
        (maps(3), OPTIONS, Budget.of(PATIENCE_S)),
    )
    left.cancel()
    with spent:
        pass
    fits.let.release(2)
    await asyncio.gather(first, patient)
    assert fits.counts == [1, 1]
    with pytest.raises(DeadlineExceeded):
        await late


async def test_a_fit_that_fails_fails_those_in_it_and_the_next_is_served(fits, monkeypatch):
    made = Segmenting()

    def fail(maps: np.ndarray, options: SegmentationOptions):
        raise ArithmeticError("no fit")

    with monkeypatch.context() as broken:
        broken.setattr(segmenting, "segment_maps", fail)
        with pytest.raises(ArithmeticError):
            await made.segment(maps(0), OPTIONS, Budget.of(PATIENCE_S))
    fits.let.release()
    assert len(await made.segment(maps(0), OPTIONS, Budget.of(PATIENCE_S))) == 1

"""The seconds left follow from the rate that was seen, and from nothing before it."""

from __future__ import annotations

from collections.abc import Iterable

from services.trainer.handlers.pacing import Pace
from services.trainer.ports import Progress


def _foresee(*steps: tuple[float, int, int]) -> list[float | None]:
    """Seconds left at each of `steps`: time, done, total."""
    times: Iterable[float] = iter([at for at, _, _ in steps])
    pace = Pace(lambda: next(times))
    return [pace.foresee(Progress(done, total, "batch")).eta_s for _, done, total in steps]


def test_the_rate_so_far_tells_the_seconds_left():
    assert _foresee((100.0, 0, 10), (104.0, 2, 10), (130.0, 6, 10), (150.0, 10, 10)) == [None, 16.0, 20.0, 0.0]


def test_nothing_is_known_until_a_second_step():
    assert _foresee((0.0, 3, 10), (5.0, 3, 10)) == [None, None]


def test_steps_that_an_earlier_worker_did_make_nobody_faster():
    assert _foresee((0.0, 500, 1000), (10.0, 510, 1000)) == [None, 490.0]


def test_a_total_that_shrinks_brings_the_end_nearer():
    assert _foresee((0.0, 0, 100), (10.0, 10, 100), (20.0, 20, 60)) == [None, 90.0, 40.0]


def test_what_is_told_stays_as_it_was():
    pace = Pace()
    pace.foresee(Progress(0, 4, "batch"))
    told = pace.foresee(Progress(2, 4, "batch", 0.7))
    assert (told.done, told.total, told.unit, told.loss) == (2, 4, "batch", 0.7)

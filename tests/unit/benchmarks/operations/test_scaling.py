"""The autoscaler's rules, with jobs of one step."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.operations.queues import simulate_waits
from benchmarks.operations.scaling import Fleet, Rules, summarise

RULES = Rules(least=1, most=8, polling_s=30, waiting_per_worker=4, calm_s=900, removal_s=300)
START_S, HANDOVER_S = 60.0, 30.0


def run(arrivals: list[float], step_s: float, rules: Rules = RULES, slots: int = 2):
    return Fleet(rules, slots, START_S, HANDOVER_S).run(arrivals, [[step_s] for _ in arrivals])


def test_the_rules_are_those_of_the_manifest():
    assert Rules.read() == RULES


def test_an_idle_day_has_one_worker():
    result = run([0.0, 40_000.0], 100.0)
    assert set(result.workers) == {1}
    assert result.waits_s == [0.0, 0.0]


def test_what_waits_brings_workers_but_never_more_than_the_most():
    assert max(run([0.0] * 20, 600.0).workers) == 5  # two are taken at once, 18 wait, 4 for each
    assert max(run([0.0] * 200, 600.0).workers) == RULES.most


def test_workers_go_one_by_one_after_a_calm_quarter_of_an_hour_and_their_steps_are_done_by_others():
    result = run([0.0] * 20, 5000.0)
    times = [poll * RULES.polling_s for poll in range(len(result.workers))]
    first = next(time for time, count in zip(times, result.workers, strict=True) if time > 60 and count < 5)
    assert first >= RULES.calm_s
    changes = [b - a for a, b in zip(result.workers, result.workers[1:], strict=False) if b < a]
    assert set(changes) == {-1}
    assert result.handed_on > 0
    assert len(result.waits_s) == 20 + result.handed_on


def test_steps_of_a_job_come_one_after_the_other():
    result = Fleet(RULES, 2, START_S, HANDOVER_S).run([0.0], [[100.0, 50.0]])
    assert result.waits_s == pytest.approx([0.0, 0.0], abs=1.0)


def test_a_fleet_that_may_not_change_waits_like_the_queue():
    generator = np.random.default_rng(0)
    arrivals = np.cumsum(generator.exponential(100, 300)).round()
    fixed = Rules(least=2, most=2, polling_s=30, waiting_per_worker=4, calm_s=900, removal_s=300)
    waits = simulate_waits(arrivals, np.full(300, 350.0), 4)
    told = summarise(run(arrivals.tolist(), 350.0, fixed))
    assert told["step_wait_p99_s"] == pytest.approx(np.percentile(waits, 99), abs=5.0)
    assert told["step_wait_p50_s"] == pytest.approx(np.percentile(waits, 50), abs=5.0)

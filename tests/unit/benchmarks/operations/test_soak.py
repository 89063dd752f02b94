"""What a soak tells of its requests."""

from __future__ import annotations

from benchmarks.operations.soak import MIX, Answer, JobEnd, summarise, summarise_jobs


def test_failures_are_counted_by_kind_and_code_and_are_in_no_latency():
    answers = [Answer("predict", "OK", 0.01)] * 9 + [Answer("predict", "UNAVAILABLE", 60.0)]
    told = summarise(answers)
    assert (told["asked"], told["failed"], told["error_rate"]) == (10, 1, 0.1)
    assert told["codes"] == {"predict UNAVAILABLE": 1}
    assert told["latency_ms"]["predict"] == {"p50": 10.0, "p99": 10.0, "most": 10.0, "requests": 9}
    assert told["latency_ms"]["explain"] is None


def test_the_mix_is_all_there_is():
    assert sum(MIX.values()) == 1.0


def test_jobs_are_told_by_how_they_ended():
    told = summarise_jobs([JobEnd("REJECTED", 10.0), JobEnd("FAILED", 30.0)])
    assert told == {"ended": {"REJECTED": 1, "FAILED": 1}, "took_s": {"median": 20.0, "most": 30.0}}
    assert summarise_jobs([])["took_s"] is None

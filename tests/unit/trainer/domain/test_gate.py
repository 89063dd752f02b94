"""The gate's criteria, one row per way to pass or to miss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import Evidence
from services.trainer.domain.gate import allow_drop, ask_gain, decide

BEFORE = Evidence(accuracy=0.98, class_accuracy=(1.0, 0.96), swap_accuracy=0.4, flip_rate=0.6, swap_count=200)
BETTER = Evidence(accuracy=0.97, class_accuracy=(0.97, 0.97), swap_accuracy=0.9, flip_rate=0.05, swap_count=200)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        (
            {"accuracy": 0.87, "class_accuracy": (0.8, 0.96), "swap_accuracy": 0.49, "flip_rate": 0.6},
            [],
        ),  # at each limit
        ({"accuracy": 0.86}, ["validation accuracy"]),
        ({"class_accuracy": (0.79, 0.97)}, ["no class falls"]),
        ({"swap_accuracy": 0.485}, ["swapped regions"]),
        ({"flip_rate": 0.61}, ["flip rate"]),
        ({"swap_accuracy": None, "flip_rate": None}, ["swapped regions", "flip rate"]),
        ({"accuracy": 0.1, "class_accuracy": (0.1, 0.1)}, ["validation accuracy", "no class falls"]),
    ],
)
def test_gate_names_exactly_the_criteria_that_are_missed(change: dict, missed: list[str]):
    decision = decide(BEFORE, replace(BETTER, **change), Criteria())
    told = [check.criterion for check in decision.checks if not check.is_met]
    assert len(told) == len(missed)
    assert all(part in criterion for part, criterion in zip(missed, told, strict=True))
    assert decision.is_accepted == (not missed)


@pytest.mark.parametrize(("swap_accuracy", "gain"), [(0.0, 0.15), (0.4, 0.09), (0.9, 0.015), (0.99, 0.01), (1.0, 0.01)])
def test_the_more_swaps_cost_the_more_must_be_gained(swap_accuracy: float, gain: float):
    assert ask_gain(replace(BEFORE, swap_accuracy=swap_accuracy), Criteria()) == pytest.approx(gain)


def test_gate_refuses_a_model_that_did_not_change():
    assert not decide(BEFORE, BEFORE, Criteria()).is_accepted


def test_gate_reason_of_a_refusal_holds_only_what_was_missed_with_both_numbers():
    decision = decide(BEFORE, replace(BETTER, accuracy=0.5), Criteria())
    assert decision.reason == "validation accuracy falls by at most 0.11: 0.980 → 0.500"


def test_gate_reason_of_an_acceptance_holds_every_criterion():
    assert decide(BEFORE, BETTER, Criteria()).reason.count("→") == 4


def test_gate_judges_the_class_that_falls_most_not_the_worst_one():
    after = replace(BETTER, class_accuracy=(0.78, 0.9))
    check = decide(BEFORE, after, Criteria()).checks[1]
    assert (check.before, check.after, check.is_met) == (1.0, 0.78, False)


def test_gate_applies_the_declared_criteria():
    strict = Criteria(max_accuracy_drop=0.0, max_flipped_loss=0.0)
    assert not decide(BEFORE, BETTER, strict).is_accepted


@pytest.mark.parametrize(("flip_rate", "allowed"), [(0.0, 0.05), (0.5, 0.10), (1.0, 0.15), (None, 0.05)])
def test_the_more_decisions_rested_on_the_shortcut_the_more_accuracy_may_go_with_it(
    flip_rate: float | None, allowed: float
):
    assert allow_drop(replace(BEFORE, flip_rate=flip_rate), Criteria()) == pytest.approx(allowed)


@pytest.mark.parametrize(
    ("asked", "missed"),
    [
        ({"min_class_accuracy": 0.97}, []),
        ({"min_class_accuracy": 0.98}, ["no class is worse than 0.98"]),
        ({"min_reliance_drop": 0.3}, []),
        ({"min_reliance_drop": 0.31}, ["the part of the decision in criticised regions falls by at least 0.31"]),
        ({"max_class_accuracy_drop": 0.02}, ["no class falls by more than 0.02"]),
        ({"min_swap_accuracy_gain": 0.6}, ["accuracy under swapped regions rises by at least 0.6"]),
    ],
)
def test_gate_refuses_what_the_job_asked_for_and_did_not_get(asked: dict, missed: list[str]):
    before, after = replace(BEFORE, reliance=0.5), replace(BETTER, reliance=0.2)
    decision = decide(before, after, Criteria(**asked))
    assert [check.criterion for check in decision.checks if not check.is_met] == missed


@pytest.mark.parametrize(("rise", "is_accepted"), [(0.0, False), (0.1, True)])
def test_gate_lets_the_flip_rate_rise_as_far_as_the_job_says(rise: float, is_accepted: bool):
    decision = decide(BEFORE, replace(BETTER, flip_rate=0.7), Criteria(max_flip_rate_rise=rise))
    assert decision.is_accepted == is_accepted


def test_gate_does_not_take_an_unmeasured_reliance_for_one_that_fell():
    assert not decide(BEFORE, BETTER, Criteria(min_reliance_drop=0.0)).is_accepted


def test_gate_names_the_worst_class_with_what_it_was_before():
    check = decide(BEFORE, replace(BETTER, class_accuracy=(0.9, 0.95)), Criteria(min_class_accuracy=0.92)).checks[2]
    assert (check.before, check.after, check.is_met) == (1.0, 0.9, False)

"""The gate's criteria, one row per way to pass or to miss."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.trainer.domain.evidence import Evidence
from services.trainer.domain.gate import Criteria, allow_drop, decide

BEFORE = Evidence(accuracy=0.98, class_accuracy=(1.0, 0.96), swap_accuracy=0.4, flip_rate=0.6, swap_count=200)
BETTER = Evidence(accuracy=0.97, class_accuracy=(0.97, 0.97), swap_accuracy=0.9, flip_rate=0.05, swap_count=200)


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({}, []),
        (
            {"accuracy": 0.87, "class_accuracy": (0.8, 0.96), "swap_accuracy": 0.41, "flip_rate": 0.6},
            [],
        ),  # at each limit
        ({"accuracy": 0.86}, ["validation accuracy"]),
        ({"class_accuracy": (0.79, 0.97)}, ["no class falls"]),
        ({"swap_accuracy": 0.405}, ["swapped regions"]),
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

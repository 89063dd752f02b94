"""What the table says of runs, against figures worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.alignment.summary import summarise
from benchmarks.alignment.table import tabulate


def run(overall: float, worst: float) -> dict:
    return {"test": {"overall": overall, "worst_group": worst}}


RUNS = {
    "0": {"plain": run(0.50, 0.10), "nano": run(0.90, 0.80) | {"is_accepted": True}, "L2 only": run(0.60, 0.20)},
    "1": {"plain": run(0.54, 0.20), "nano": run(0.92, 0.84) | {"is_accepted": False}},
    "2": {"plain": run(0.52, 0.15), "nano": run(0.94, 0.82)},
}


def test_means_and_intervals_are_students_over_seeds():
    overall = summarise(RUNS)["plain"]["overall"]
    assert (overall["seeds"], overall["mean"], overall["least"], overall["most"]) == (3, 52.0, 50.0, 54.0)
    assert overall["half_width"] == pytest.approx(4.303 * 2 / 3**0.5, abs=0.01)  # t of 2 degrees of freedom, sd 2


def test_differences_are_paired_by_seed():
    gain = summarise(RUNS)["nano"]["worst_group"]["gain_over_plain"]
    assert gain["mean"] == pytest.approx((70 + 64 + 67) / 3)
    assert gain["half_width"] == pytest.approx(4.303 * 3 / 3**0.5, abs=0.01)
    assert gain["p"] == pytest.approx(0.00067, abs=0.0001)


def test_an_arm_of_one_seed_is_compared_on_that_seed_and_has_no_interval():
    l2 = summarise(RUNS)["L2 only"]["worst_group"]
    assert (l2["seeds"], l2["mean"], l2["half_width"]) == (1, 20.0, None)
    assert l2["gain_over_plain"] == {"mean": 10.0, "half_width": None, "p": None}
    assert l2["above_nano"]["mean"] == -60.0


def test_the_table_has_a_row_an_arm():
    rows = tabulate(summarise(RUNS)).splitlines()
    assert rows[2] == "| plain | 3 | 52.0 ± 5.0 | 15.0 ± 12.4 |  | -67.0 ± 7.5 (p 0.0007) |  |"
    assert rows[3].endswith("| 1 of 2 |")
    assert len(rows) == 5


@pytest.mark.parametrize(("swap_accuracy", "told"), [(0.45, "0 of 1"), (0.9, "1 of 1")])
def test_the_gate_of_today_is_held_on_the_evidence_that_a_run_kept(swap_accuracy: float, told: str):
    before = {"accuracy": 0.9, "class_accuracy": [0.9, 0.9], "swap_accuracy": 0.4, "flip_rate": 0.5, "swap_count": 9}
    kept = {"before": before, "after": before | {"swap_accuracy": swap_accuracy}, "is_accepted": True}
    assert summarise({"0": {"nano": run(0.9, 0.8) | kept}})["nano"]["accepted"] == told

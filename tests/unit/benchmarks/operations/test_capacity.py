"""What many hospitals need, on what was measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.operations.capacity import HOSPITALS, Assumptions, Day, plan, write_costs, write_table
from benchmarks.operations.costs import WORKLOADS, Costs, read_costs
from benchmarks.provenance import ROOT

RESULT = ROOT / "benchmarks" / "operations" / "results" / "capacity.json"
COSTS = Costs(explanation_s=0.5, segmentation_s=0.05, critique_s=0.05, step_s=0.5, steps=1000, critiqued=100)
ASSUMED = Assumptions()


@pytest.mark.parametrize("name", WORKLOADS)
def test_costs_are_those_of_the_result_files(name):
    costs = read_costs(WORKLOADS[name])
    throughput = json.loads((ROOT / "benchmarks/explainer/results/throughput.json").read_text())
    case = throughput["cases"][f"{WORKLOADS[name].net} DEEP_LIFT_SHAP"]
    assert 1 / costs.explanation_s == pytest.approx(case["pictures_per_s"]["stack, 32 callers"]["median"])
    assert costs.steps == 1300
    assert costs.critiqued == 400


def test_a_day_has_all_of_its_work():
    assert sum(ASSUMED.day) == pytest.approx(100)
    assert len(ASSUMED.day) == 24
    day = Day(1000, COSTS, ASSUMED, seed=0)
    expected = 1000 * ASSUMED.explanations_per_day
    for station in ("triton", "segmentation"):
        assert day.plan_explainers()[station]["single_wait"]["count"] == pytest.approx(expected, rel=0.02)


def test_ten_times_the_hospitals_need_less_than_ten_times_the_servers_and_wait_no_longer_than_is_allowed():
    few, many = (plan(count, COSTS, ASSUMED, seed=0, gpu_is_cores=0) for count in (500, 5000))
    replicas = [each["explainers"]["replicas"] for each in (few, many)]
    assert replicas[0] < replicas[1] <= 10 * replicas[0]
    for each in (few, many):
        triton = each["explainers"]["triton"]
        assert triton["utilisation_in_the_busiest_hour"] <= ASSUMED.most_utilisation
        assert triton["single_wait"]["p99_s"] <= ASSUMED.most_explanation_wait_s
        assert each["workers"]["wait"]["p99_s"] <= ASSUMED.most_job_wait_s
        assert each["explainers_with_gpus"] is None


def test_pictures_of_jobs_give_way_to_single_ones():
    busy = replace(ASSUMED, jobs_per_day=1.0)
    triton = Day(100, COSTS, busy, seed=0).plan_explainers()["triton"]
    assert triton["single_wait"]["p99_s"] < triton["bulk_wait"]["p99_s"] / 10


def test_gpus_follow_from_what_one_is_assumed_to_be_worth():
    counted = [
        plan(5000, COSTS, ASSUMED, seed=0, gpu_is_cores=cores)["explainers_with_gpus"] for cores in (1, 10, 1000)
    ]
    assert counted[0] == plan(5000, COSTS, ASSUMED, seed=0, gpu_is_cores=0)["explainers"]["replicas"]
    assert counted[1] < counted[0] / 5
    # Segmentation gains nothing from a GPU.
    assert counted[2] == counted[1]


def test_the_page_has_the_tables_of_the_result_file():
    result = json.loads(RESULT.read_text())
    assert [int(each) for each in next(iter(result["workloads"].values()))["plans"]] == list(HOSPITALS)
    page = (ROOT / "docs" / "operations.md").read_text()
    assert write_costs(result) in page
    assert write_table(result) in page

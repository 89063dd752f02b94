"""How many replicas 10 to 10,000 hospitals need, how long they wait, and what the autoscaler would do: a simulation on measured costs.

Run: python -m benchmarks.operations.capacity --out FILE [--seed 0] [--gpu-is-cores N]

Costs are read from the result files of the other benchmarks (`costs.py`). What hospitals do is assumed: `Assumptions`. Servers are found by formula for the busiest hour and then
tried on a whole simulated day (`queues.py`), whose waits are told; workers also under the autoscaler's rules, as the manifest has them (`scaling.py`).

A replica of the explainer has a core for its Triton and one for segmentation; callers choose among replicas by chance, knowing nothing of their queues. A job's pictures come to both all at once and give way to whoever waits for a single picture; what they cost a job's own time is
counted as if it were alone. Nothing was measured on GPUs. `--gpu-is-cores` states how many cores one is worth, and the figures for GPUs are that assumption's.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.operations.costs import SOURCES, WORKLOADS, Costs, Workload, read_costs
from benchmarks.operations.queues import (
    draw_arrivals,
    draw_services,
    fewest_replicas,
    fewest_servers,
    simulate_replicas,
    simulate_waits,
    wait_quantile,
)
from benchmarks.operations.scaling import Fleet, Rules, summarise
from benchmarks.provenance import where, write_report

HOSPITALS = (10, 100, 1000, 10_000)
QUANTILE = 0.99


@dataclass(frozen=True)
class Assumptions:
    """What is not measured."""

    explanations_per_day: float = 200.0
    """Pictures that a hospital has explained on a working day, one by one."""
    jobs_per_day: float = 1 / 30
    """Alignment jobs that a hospital files."""
    day: tuple[float, ...] = (1, 1, 1, 1, 1, 1, 1, 5, 9, 11, 11, 10, 8, 9, 9, 8, 6, 4, 1, 0.5, 0.5, 0.5, 0.25, 0.25)
    """Percent of a day's work in each hour; all hospitals are in one time zone."""
    explanation_variability: float = 0.1
    """Variance of what a picture costs, over the mean's square; critiques and segmentations alike."""
    job_variability: float = 0.5
    """The same of what a job costs: sets differ in size."""
    most_explanation_wait_s: float = 2.0
    """What 99 of 100 explanations wait for Triton at most, and for their segmentation."""
    most_job_wait_s: float = 1800.0
    """What 99 of 100 jobs wait for a worker at most: the alert's bound."""
    most_critique_wait_s: float = 60.0
    """What 99 of 100 jobs wait for the language model at most."""
    most_utilisation: float = 0.8
    """Of any server in the busiest hour."""
    least_replicas: int = 2
    """One may be away."""
    steps_per_worker: int = 2
    """`TRAINER_WORKER_THREADS`."""
    worker_start_s: float = 60.0
    """From the autoscaler's wish to a worker that takes messages."""
    handover_s: float = 30.0
    """What a step costs more when its worker is taken away: a start, and what lies between checkpoints."""


class Day:
    """A working day of so many hospitals, drawn once."""

    def __init__(self, hospitals: int, costs: Costs, assumed: Assumptions, seed: int) -> None:
        self._costs, self._assumed = costs, assumed
        self._generator = np.random.default_rng(seed)
        shares = np.array(assumed.day) / 100
        self._singles_s = draw_arrivals(hospitals * assumed.explanations_per_day * shares, self._generator)
        self.jobs_s = draw_arrivals(hospitals * assumed.jobs_per_day * shares, self._generator)
        self.single_rate = hospitals * assumed.explanations_per_day * shares.max() / 3600
        self.job_rate = hospitals * assumed.jobs_per_day * shares.max() / 3600

    def count_explainers(self, gpu_is_cores: float = 1.0) -> int:
        """Replicas of the explainer, whose Tritons have so many cores' worth each."""
        return max(self._count_replicas(costs_s) for costs_s in self._stations(gpu_is_cores).values())

    def plan_explainers(self) -> dict[str, Any]:
        """Replicas of the explainer, and what pictures wait for in them, single ones first."""
        assumed, replicas = self._assumed, self.count_explainers()
        bulk_s = np.repeat(self.jobs_s, self._costs.critiqued)
        arrivals_s = np.concatenate([self._singles_s, bulk_s])
        is_bulk = np.arange(len(arrivals_s)) >= len(self._singles_s)
        order = np.argsort(arrivals_s, kind="stable")
        replica_of = self._generator.integers(replicas, size=len(arrivals_s))
        planned: dict[str, Any] = {"replicas": replicas}
        for station, cost_s in self._stations().items():
            services_s = self._draw(cost_s, assumed.explanation_variability, len(arrivals_s))
            waits = simulate_replicas(arrivals_s[order], services_s, replica_of, is_bulk[order])
            planned[station] = {
                "utilisation_in_the_busiest_hour": round(self._picture_rate * cost_s / replicas, 3),
                "single_wait": _quantiles(waits[~is_bulk[order]]),
                "bulk_wait": _quantiles(waits[is_bulk[order]]),
            }
        return planned

    @property
    def _picture_rate(self) -> float:
        return self.single_rate + self.job_rate * self._costs.critiqued

    def _stations(self, gpu_is_cores: float = 1.0) -> dict[str, float]:
        """Seconds that a picture takes in each part of a replica."""
        return {"triton": self._costs.explanation_s / gpu_is_cores, "segmentation": self._costs.segmentation_s}

    def _count_replicas(self, picture_s: float) -> int:
        assumed = self._assumed
        return fewest_replicas(
            QUANTILE,
            assumed.most_explanation_wait_s,
            self._picture_rate,
            picture_s,
            assumed.explanation_variability,
            assumed.most_utilisation,
            assumed.least_replicas,
        )

    def plan_jobs(self, job_s: float, most_wait_s: float, slots: int, least: int) -> dict[str, Any]:
        """Replicas of `slots` servers each for what a job takes as a whole, and their waits."""
        assumed = self._assumed
        servers = fewest_servers(
            QUANTILE,
            most_wait_s,
            self.job_rate,
            job_s,
            assumed.job_variability,
            assumed.most_utilisation,
            least * slots,
        )
        replicas = math.ceil(servers / slots)
        services_s = self._draw(job_s, assumed.job_variability, len(self.jobs_s))
        waits = simulate_waits(self.jobs_s, services_s, replicas * slots)
        expected_s = wait_quantile(QUANTILE, self.job_rate, job_s, replicas * slots, assumed.job_variability)
        return {
            "replicas": replicas,
            "utilisation_in_the_busiest_hour": round(self.job_rate * job_s / replicas / slots, 3),
            "wait_p99_s_by_formula": round(expected_s, 1),
            "wait": _quantiles(waits),
        }

    def scale_workers(self, rules: Rules) -> dict[str, float] | None:
        """The same jobs under the autoscaler; None on a day without one."""
        if not len(self.jobs_s):
            return None
        assumed, costs = self._assumed, self._costs
        fleet = Fleet(rules, assumed.steps_per_worker, assumed.worker_start_s, assumed.handover_s)
        sizes = self._draw(1.0, assumed.job_variability, len(self.jobs_s))
        steps_s = [(size * costs.critiquing_s, size * costs.training_s) for size in sizes]
        return summarise(fleet.run(self.jobs_s, steps_s))

    def _draw(self, mean_s: float, variability: float, count: int) -> np.ndarray:
        return draw_services(mean_s, variability, count, self._generator)


def plan(hospitals: int, costs: Costs, assumed: Assumptions, seed: int, gpu_is_cores: float) -> dict[str, Any]:
    """What so many hospitals need."""
    day = Day(hospitals, costs, assumed, seed)
    job_s = costs.critiquing_s + costs.training_s
    return {
        "explanations_per_s_in_the_busiest_hour": round(day.single_rate, 3),
        "jobs_per_day": round(hospitals * assumed.jobs_per_day, 2),
        "explainers": day.plan_explainers(),
        "explainers_with_gpus": day.count_explainers(gpu_is_cores) if gpu_is_cores else None,
        "lvlm_cores": day.plan_jobs(
            costs.critiqued * costs.critique_s, assumed.most_critique_wait_s, 1, assumed.least_replicas
        ),
        "workers": day.plan_jobs(job_s, assumed.most_job_wait_s, assumed.steps_per_worker, 1),
        "workers_under_the_autoscaler": day.scale_workers(Rules.read()),
    }


def write_costs(result: dict[str, Any]) -> str:
    """What things cost one core, as a table in Markdown: a row for each workload."""
    rows = [
        "| Pictures | Map, Triton | Segments, explainer | Critique, LVLM service | Step of fine-tuning, worker | A job's critiques | A job's steps |",
        "|---|---|---|---|---|---|---|",
    ]
    for workload, content in result["workloads"].items():
        costs = content["costs"]
        each = (f"{costs[name] * 1000:.0f} ms" for name in ("explanation_s", "segmentation_s", "critique_s", "step_s"))
        job = (
            f"{costs['critiqued']}: {costs['critiquing_s']:.0f} s",
            f"{costs['steps']:,}: {costs['training_s']:.0f} s",
        )
        rows.append(f"| {' | '.join((workload, *each, *job))} |")
    return "\n".join(rows)


def write_table(result: dict[str, Any]) -> str:
    """The plans as a table in Markdown: a row for each workload and number of hospitals."""
    rows = [
        "| Pictures, hospitals | Explanations/s | Explainers, waits for Triton p50 / p99 | LVLM cores | Workers, jobs' waits p50 / p99 | Autoscaled workers, mean / most; steps' waits p99 |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(
        rows
        + [
            f"| {workload}: {int(hospitals):,} | {' | '.join(_write_plan(each))} |"
            for workload, content in result["workloads"].items()
            for hospitals, each in content["plans"].items()
        ]
    )


def _write_plan(planned: dict[str, Any]) -> list[str]:
    explainers, workers, scaled = (planned[name] for name in ("explainers", "workers", "workers_under_the_autoscaler"))
    return [
        f"{planned['explanations_per_s_in_the_busiest_hour']:.2f}",
        f"{explainers['replicas']}, {_write_waits(explainers['triton']['single_wait'])}",
        str(planned["lvlm_cores"]["replicas"]),
        f"{workers['replicas']}, {_write_waits(workers['wait'])}",
        f"{scaled['mean_workers']:.1f} / {scaled['most_workers']}; {_write_time(scaled['step_wait_p99_s'])}"
        if scaled
        else "–",
    ]


def _write_waits(wait: dict[str, float] | None) -> str:
    return f"{_write_time(wait['p50_s'])} / {_write_time(wait['p99_s'])}" if wait else "–"


def _write_time(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.1f} s"


def main() -> None:
    """Plan, print the tables and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--gpu-is-cores", type=float, default=0.0, help="an assumption; 0: no figures for GPUs")
    arguments = parser.parse_args()
    assumed = Assumptions()
    result = {
        "about": where() | {"seed": arguments.seed, "sources": SOURCES, "gpu_is_cores": arguments.gpu_is_cores},
        "assumptions": asdict(assumed),
        "autoscaler": asdict(Rules.read()),
        "workloads": {
            name: _plan_all(workload, assumed, arguments.seed, arguments.gpu_is_cores)
            for name, workload in WORKLOADS.items()
        },
    }
    write_report(arguments.out, result)
    sys.stdout.write(f"{write_costs(result)}\n\n{write_table(result)}\n")


def _plan_all(workload: Workload, assumed: Assumptions, seed: int, gpu_is_cores: float) -> dict[str, Any]:
    costs = read_costs(workload)
    told = asdict(costs) | {"critiquing_s": costs.critiquing_s, "training_s": costs.training_s}
    return {
        "stands_for": asdict(workload),
        "costs": {name: round(value, 4) for name, value in told.items()},
        "plans": {str(hospitals): plan(hospitals, costs, assumed, seed, gpu_is_cores) for hospitals in HOSPITALS},
    }


def _quantiles(waits_s: Sequence[float]) -> dict[str, float] | None:
    if not len(waits_s):
        return None
    p50, p99 = np.percentile(waits_s, [50, 99])
    return {"p50_s": round(float(p50), 3), "p99_s": round(float(p99), 3), "count": len(waits_s)}


if __name__ == "__main__":
    main()

"""What things cost, read from the result files of the other benchmarks: seconds of one core."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.provenance import ROOT

SOURCES = {
    "explanation": "benchmarks/explainer/results/throughput.json",
    "segmentation": "benchmarks/segmentation/results/speed.json",
    "critique and step": "benchmarks/alignment/results/cost.json",
    "job": "benchmarks/decoy/results/digits-0.json",
}


@dataclass(frozen=True)
class Workload:
    """Which of the measured nets stand for a kind of pictures. `batch_scale`: by how much a whole batch is more than the one that was timed."""

    net: str
    method: str
    map_size: str
    trained_net: str
    batch_scale: float


WORKLOADS = {
    "digits, 28 × 28": Workload("small-cnn-28", "DEEP_LIFT_SHAP", "28 x 28", "small CNN, 28 x 28", 1.0),
    # The ResNet's step was timed with a quarter of every count of the recipe.
    "films, 224 × 224": Workload("resnet18-224", "DEEP_LIFT_SHAP", "224 x 224", "small ResNet, 112 x 112", 4.0),
}


@dataclass(frozen=True)
class Costs:
    """Seconds of one core: of a picture, and of a step of fine-tuning; and what a job is made of."""

    explanation_s: float
    """Prediction and map by Triton, through the whole stack at its highest rate."""
    segmentation_s: float
    critique_s: float
    """By `nano`."""
    step_s: float
    steps: int
    critiqued: int
    """Pictures of a job."""

    @property
    def critiquing_s(self) -> float:
        """A job's pictures, one after the other."""
        return self.critiqued * (self.explanation_s + self.segmentation_s + self.critique_s)

    @property
    def training_s(self) -> float:
        """A job's steps of fine-tuning, measurements between them left out."""
        return self.steps * self.step_s


def read_costs(workload: Workload) -> Costs:
    """The medians."""
    files = {name: json.loads((ROOT / path).read_text(encoding="utf-8")) for name, path in SOURCES.items()}
    case = files["explanation"]["cases"][f"{workload.net} {workload.method}"]
    map_ms = files["segmentation"][workload.map_size]["ms_per_map"]["batched"]["median"]
    costs, job = files["critique and step"], files["job"]["metrics"]
    return Costs(
        explanation_s=1 / case["pictures_per_s"]["stack, 32 callers"]["median"],
        segmentation_s=map_ms / 1000,
        critique_s=costs["critiques_s_per_1000_pictures"]["critique"]["median"] / 1000,
        step_s=workload.batch_scale * costs["steps"][workload.trained_net]["aligned"]["ms"]["median"] / 1000,
        steps=_count_steps(job),
        critiqued=job["pictures"]["critiqued"],
    )


def _count_steps(job: Mapping[str, Any]) -> int:
    """Those of the trials, and of the full run up to the snapshot that was chosen."""
    return sum(trial["step"] for trial in job["trials"]) + job["chosen"]["step"]

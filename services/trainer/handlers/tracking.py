"""What a tracker is told of a job: names, digests and numbers. Nothing that a person wrote, and no picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from services.common.runtime.code_version import code_version
from services.trainer.domain.job import Job
from services.trainer.ports import RunEnd, TrackedJob

CUT_OFF = RunEnd("CUT_OFF", {}, {})
"""The step was left before the job had ended: it may go on, here or elsewhere."""
_SETTINGS = ("loss", "selection", "mask_source", "images_per_class", "epochs", "seed", "review")


def describe(job: Job) -> TrackedJob:
    """A job as a tracker names it."""
    request = job.request
    criteria = {f"criteria.{name}": value for name, value in asdict(request.criteria).items() if value is not None}
    return TrackedJob(
        job_id=job.job_id,
        model_name=request.model_name,
        settings={name: str(getattr(request, name)) for name in _SETTINGS}
        | {name: str(value) for name, value in criteria.items()},
        lineage={
            "model_name": request.model_name,
            "model_version": str(request.model_version),
            "model_digest": request.model_digest,
            "specification_digest": request.specification_digest,
            "code_version": code_version(),
        },
    )


def tell_end(job: Job, metrics: Mapping[str, Any] | None) -> RunEnd:
    """How a job stands whose step has ended, with the gate's words and numbers from its metrics (`metrics.json`) if there are any."""
    if not job.state.is_final:
        return CUT_OFF
    last, told = job.events[-1], {}
    if last.published_version:
        told = {"published_version": str(last.published_version), "published_digest": last.published_digest}
    if metrics:
        told["decision"] = metrics["decision"]["reason"]
    return RunEnd(job.state.value, told, dict(_read_numbers(metrics or {})))


def _read_numbers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for group in ("before", "after", "chosen", "pictures"):
        for name, value in metrics.get(group, {}).items():
            # Classes by their place: a label is the data set's word.
            places = (
                {f"/{place}": number for place, number in enumerate(value)} if name == "class_accuracy" else {"": value}
            )
            for place, number in places.items():
                if number is not None:
                    yield f"gate/{group}/{name}{place}", float(number)
    if "decision" in metrics:
        yield "gate/is_accepted", float(metrics["decision"]["is_accepted"])

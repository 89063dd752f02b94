"""What became of messages, trainings and critiques, in numbers."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from services.common.runtime.errors import Conflict, InvalidInput, Unavailable
from services.common.runtime.queues import TRAIN_TASK
from services.trainer.adapters.metered_consuming import MeteredConsuming
from services.trainer.adapters.metered_run import MeteredRun
from services.trainer.ports import Progress, RunKilled, WorkerStopping
from services.trainer.tasks import RETRY_COUNT
from tests.unit.trainer.made_up import make_critique
from tests.unit.trainer.review_stage import DIGESTS, ReviewStage
from tests.unit.trainer.task_stage import TaskStage

STEPS, TRAININGS = "plumbline_trainer_steps_total", "plumbline_trainer_trainings_total"
GATE, CRITIQUES = "plumbline_trainer_gate_decisions_total", "plumbline_trainer_critiques_total"


def read(name: str) -> dict[tuple[str, ...], float]:
    """The samples of `name` by their labels."""
    return {
        tuple(sample.labels.values()): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if sample.name == name
    }


def grown(name: str, before: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """By how much, where at all."""
    return {key: value - before.get(key, 0) for key, value in read(name).items() if value != before.get(key, 0)}


@pytest.mark.parametrize(
    ("failures", "ends"),
    [
        ([], {"DONE": 1}),
        ([Conflict("another worker has it")], {"LEFT": 1}),
        ([WorkerStopping("the worker is told to go")], {"SENT_ON": 1, "DONE": 1}),
        ([Unavailable("away")], {"RETRIED": 1, "DONE": 1}),
        ([Unavailable("away")] * (RETRY_COUNT + 1), {"RETRIED": RETRY_COUNT, "FAILED": 1}),
        ([InvalidInput("dataset_path", "gone")], {"FAILED": 1}),
        ([ZeroDivisionError()], {"BUG": 1}),
    ],
)
def test_a_message_is_counted_by_how_it_ended(tmp_path: Path, failures: list[Exception], ends: dict[str, int]):
    stage, before = TaskStage(tmp_path), read(STEPS)
    stage.step.failures = list(failures)
    stage.run_to_its_end(TRAIN_TASK)
    assert grown(STEPS, before) == {(TRAIN_TASK, end): count for end, count in ends.items()}
    assert read("plumbline_trainer_steps_running")[(TRAIN_TASK,)] == 0


def _measured(is_accepted: bool) -> dict[str, Any]:
    return {"decision": {"is_accepted": is_accepted, "reason": "it"}}


@pytest.mark.parametrize(
    ("result", "outcome", "decision"),
    [
        (_measured(True), "MEASURED", "ACCEPTED"),
        (_measured(False), "MEASURED", "REJECTED"),
        (None, "CANCELLED", None),
        (RunKilled("killed"), "KILLED", None),
        (WorkerStopping("told to go"), "SENT_ON", None),
        (ZeroDivisionError(), "FAILED", None),
    ],
)
def test_a_training_is_counted_by_how_it_ended_and_what_the_gate_said(
    tmp_path: Path, result: object, outcome: str, decision: str | None
):
    reports: list[Progress] = []

    def run(job, on_progress, is_wanted, on_numbers):
        on_progress(Progress(1, 2, "batch"))
        assert read("plumbline_trainer_trainings_running")[()] == 1
        if isinstance(result, Exception):
            raise result
        return result

    before = {name: read(name) for name in (TRAININGS, GATE, "plumbline_trainer_training_reports_total")}
    expected = pytest.raises(type(result)) if isinstance(result, Exception) else contextlib.nullcontext()
    with expected:
        assert MeteredRun(run)(TaskStage(tmp_path).job, reports.append, lambda: True, lambda *_: None) is result
    assert grown(TRAININGS, before[TRAININGS]) == {(outcome,): 1}
    assert grown(GATE, before[GATE]) == ({(decision,): 1} if decision else {})
    assert grown("plumbline_trainer_training_reports_total", before["plumbline_trainer_training_reports_total"]) == {
        (): 1
    }
    assert len(reports) == 1


def test_critiques_are_counted_by_what_became_of_them_pushed_or_queued(tmp_path: Path):
    stage, before = ReviewStage(tmp_path), read(CRITIQUES)
    consuming = MeteredConsuming(stage.record, stage.completing, stage.lease)
    good, bad = (make_critique(digest).model_dump(mode="json") for digest in (DIGESTS[0], "f" * 64))
    consuming.consume({"job_id": stage.job_id, "critiques": [good, bad]})
    consuming.push({"job_id": stage.job_id, "critiques": [good]})
    assert grown(CRITIQUES, before) == {("TAKEN",): 1, ("ALREADY_THERE",): 1, ("SET_ASIDE",): 1}
    with pytest.raises(InvalidInput):
        consuming.push({"job_id": stage.job_id, "critiques": []})
    assert grown(CRITIQUES, before)[("SET_ASIDE",)] == 2

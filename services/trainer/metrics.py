"""The trainer's numbers, of its API and of its workers; `common.runtime.metrics` counts the API's calls."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import StrEnum

from prometheus_client import Counter, Gauge, Histogram

from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUE_TASK, SUBMIT_TASK, TRAIN_TASK

_LONG_S = (0.1, 1, 5, 15, 60, 180, 600, 1800, 3600, 2 * 3600, 4 * 3600)

# The API looks these up.
JOBS = Gauge("plumbline_trainer_jobs", "Jobs on record by state.", ["state"])
OLDEST_JOB_SECONDS = Gauge(
    "plumbline_trainer_oldest_job_seconds",
    "How long the job that has been longest in a state has been in it; 0 without one. States that are no end.",
    ["state"],
)
QUEUE_MESSAGES = Gauge("plumbline_trainer_queue_messages", "Messages that wait for a worker.", ["queue"])
MESSAGES_IN_WORK = Gauge("plumbline_trainer_messages_in_work", "Messages that workers have and have not acknowledged.")
LEASES = Gauge("plumbline_trainer_leases", "Steps of jobs that some worker holds.", ["step"])

# A worker counts these, and the API critiques that are pushed.
STEPS = Counter(
    "plumbline_trainer_steps_total",
    "Messages that a worker was through with: DONE, LEFT to another worker, SENT_ON as the worker is told to go, RETRIED later, "
    "FAILED with a reason, BUG.",
    ["task", "outcome"],
)
STEP_SECONDS = Histogram(
    "plumbline_trainer_step_seconds", "Time that a worker took for a message.", ["task"], buckets=_LONG_S
)
STEPS_RUNNING = Gauge("plumbline_trainer_steps_running", "Messages that a worker is at.", ["task"])
TRAININGS = Counter(
    "plumbline_trainer_trainings_total",
    "Training processes that ended: MEASURED, CANCELLED, SENT_ON with a checkpoint, KILLED by a signal, FAILED.",
    ["outcome"],
)
TRAININGS_RUNNING = Gauge("plumbline_trainer_trainings_running", "Training processes that run.")
TRAINING_REPORTS = Counter("plumbline_trainer_training_reports_total", "Signs of progress from training processes.")
TRAINING_SECONDS = Histogram(
    "plumbline_trainer_training_seconds", "Time that a training process took.", buckets=_LONG_S
)
GATE_DECISIONS = Counter("plumbline_trainer_gate_decisions_total", "Challengers by what the gate said.", ["decision"])
CRITIQUES = Counter(
    "plumbline_trainer_critiques_total",
    "Critiques that came in: TAKEN, ALREADY_THERE, SET_ASIDE with a reason; a batch that does not hold as a whole is one SET_ASIDE.",
    ["outcome"],
)


class StepEnd(StrEnum):
    """What became of a message."""

    DONE = "DONE"
    LEFT = "LEFT"
    SENT_ON = "SENT_ON"
    RETRIED = "RETRIED"
    FAILED = "FAILED"
    BUG = "BUG"


# Rates of what comes later need a zero to begin with.
for _task in (SUBMIT_TASK, CRITIQUE_TASK, CONSUME_CRITIQUES_TASK, TRAIN_TASK):
    STEPS_RUNNING.labels(_task)
    for _end in StepEnd:
        STEPS.labels(_task, _end)
for _outcome in ("MEASURED", "CANCELLED", "SENT_ON", "KILLED", "FAILED"):
    TRAININGS.labels(_outcome)
for _decision in ("ACCEPTED", "REJECTED"):
    GATE_DECISIONS.labels(_decision)
for _outcome in ("TAKEN", "ALREADY_THERE", "SET_ASIDE"):
    CRITIQUES.labels(_outcome)


class MeasuredStep:
    """A message in work; `end` is set by whoever knows better."""

    end = StepEnd.DONE


@contextlib.contextmanager
def measure_step(task: str) -> Iterator[MeasuredStep]:
    """Time a message of `task` and count how it ended."""
    step = MeasuredStep()
    with STEPS_RUNNING.labels(task).track_inprogress(), STEP_SECONDS.labels(task).time():
        try:
            yield step
        finally:
            STEPS.labels(task, step.end).inc()

"""Celery tasks: find the use case, call it, and make sure that a failure ends the job with a reason."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import celery
from celery.exceptions import Reject
from opentelemetry.trace import SpanKind

from services.common.runtime.errors import Conflict, Overloaded, ServiceError, Unavailable
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUE_TASK, SUBMIT_TASK, TRAIN_TASK
from services.common.runtime.traces import span
from services.trainer.handlers.consuming import Consuming
from services.trainer.handlers.critiquing import Critiquing
from services.trainer.handlers.submitting import Submission, Submitting
from services.trainer.handlers.training import Training, fail, tell
from services.trainer.metrics import StepEnd, measure_step
from services.trainer.ports import TRACE, Archive, WorkerStopping

log = logging.getLogger(__name__)

RETRIED = (Unavailable, Overloaded)
RETRY_COUNT = 11
RETRY_DELAYS_S = (2.0, 45.0)
"""First and longest wait, doubled in between: five and a half minutes in all. Less than a minute each, after which the recovery takes a
job for abandoned. The worker that had the message waits, and then puts it behind the others: a message that is due later would be kept by a worker that may train
for hours by then."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """The use cases behind the tasks."""

    archive: Archive
    submitting: Submitting
    critiquing: Critiquing
    consuming: Consuming
    training: Training
    read_submission: Callable[[Any], Submission]


def register_tasks(app: celery.Celery, steps: Steps, pause: Callable[[float], object] = time.sleep) -> None:
    """Give `app` its four tasks. A neighbour that is away is waited for, a bounded number of times (about five minutes); `pause` waits seconds, fewer when the worker is told to go."""

    @app.task(name=CRITIQUE_TASK, bind=True, shared=False)
    def critique(task: celery.Task, job_id: str) -> None:
        run(task, lambda: steps.critiquing.critique(job_id), job_id)

    @app.task(name=TRAIN_TASK, bind=True, shared=False)
    def train(task: celery.Task, job_id: str) -> None:
        run(task, lambda: steps.training.train(job_id), job_id, partial(steps.training.fail, job_id))

    @app.task(name=CONSUME_CRITIQUES_TASK, bind=True, shared=False)
    def consume_critiques(task: celery.Task, batch: Any) -> None:
        job_id = str(batch.get("job_id")) if isinstance(batch, dict) else ""

        def refuse(error: Exception, request_id: str) -> None:
            # One batch is no reason to end a job: its pictures are asked for again, or somebody else's critiques of them come.
            steps.archive.set_aside(job_id, batch, tell(error, request_id))

        run(task, lambda: steps.consuming.consume(batch), job_id, refuse)

    @app.task(name=SUBMIT_TASK, bind=True, shared=False)
    def submit(task: celery.Task, request: Any) -> None:
        def submit_once() -> None:
            submission = steps.read_submission(request)
            # A message may come twice. Without a key of the sender's its own id is the key.
            key = submission.idempotency_key or f"message-{task.request.id}"
            steps.submitting.submit(dataclasses.replace(submission, idempotency_key=key))

        def refuse(error: Exception, request_id: str) -> None:
            # Nobody waits for an answer on the queue: what was wrong is kept where the submitter can read it.
            steps.archive.set_aside("", request, tell(error, request_id))

        run(task, submit_once, "", refuse)

    run = partial(_run, steps, pause)


def _run(
    steps: Steps,
    pause: Callable[[float], object],
    task: celery.Task,
    step: Callable[[], object],
    job_id: str,
    refuse: Callable[[Exception, str], None] | None = None,
) -> None:
    """Run a step; when it can't be done, `refuse` it, which by default ends the job."""
    refuse = refuse or (lambda error, request_id: fail(steps.archive, job_id, error, request_id))
    extra = {"task": task.name, "job_id": job_id}
    parent, retries = _find_trace(steps.archive, job_id), task.request.retries
    again: tuple[float, int] | None = None
    refused: tuple[Exception, str] | None = None
    with measure_step(task.name) as measured, span(task.name, job_id=job_id, parent=parent, kind=SpanKind.CONSUMER):
        try:
            _do(step)
        except WorkerStopping:
            measured.end, again = StepEnd.SENT_ON, (0.0, retries)
            log.info("step sent on", extra=extra)
        except Conflict as error:
            # Another worker has the job or moved it at the same moment: it goes on there.
            measured.end = StepEnd.LEFT
            log.info("step left to another", extra=extra | {"cause": error.message})
        except ServiceError as error:
            if isinstance(error, RETRIED) and retries < RETRY_COUNT:
                measured.end, again = StepEnd.RETRIED, (_delay_s(retries), retries + 1)
                log.info("step tried again", extra=extra | {"kind": error.kind})
            else:
                measured.end, refused = StepEnd.FAILED, (error, "")
                # That somebody stayed away is the operators' business, what was asked wrongly is not.
                level = logging.WARNING if isinstance(error, RETRIED) else logging.INFO
                log.log(level, "step failed", extra=extra | {"kind": error.kind})
        except Exception as error:  # a bug: the job ends, the worker goes on, the stack is in the log
            measured.end, refused = StepEnd.BUG, (error, uuid.uuid4().hex)
            log.exception("step failed", extra=extra | {"request_id": refused[1]})
        if refused:
            try:
                refuse(*refused)
            except RETRIED as error:
                # There is no place for what was refused, so it stays a message until there is.
                measured.end, again = StepEnd.RETRIED, (RETRY_DELAYS_S[1], RETRY_COUNT)
                log.warning("refusal not kept", extra=extra | {"kind": error.kind})
    if again:
        _send_again(task, pause, *again)


def _send_again(task: celery.Task, pause: Callable[[float], object], delay_s: float, retries: int) -> None:
    """Put the message behind the others in its queue after a while; where the broker does not take it, the one that came is not acknowledged."""
    pause(delay_s)
    try:
        task.signature_from_request(task.request, retries=retries).apply_async()
    except Exception as error:
        raise Reject(error, requeue=True) from error


def _find_trace(archive: Archive, job_id: str) -> dict[str, str] | None:
    """The trace that the job was filed in; None where there is none, none that can be read, or no such job."""
    with contextlib.suppress(ServiceError, ValueError):
        kept = archive.read(job_id, TRACE)
        return kept if isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values()) else None
    return None


def _do(step: Callable[[], object]) -> None:
    try:
        step()
    except OSError as error:
        # The data root's: a hanging disk passes. The store's and neighbours' refusals are ours already when they come here.
        raise Unavailable(f"the data set can't be read: {error.strerror}") from error


def _delay_s(retries: int) -> float:
    first, longest = RETRY_DELAYS_S
    return min(longest, first * 2**retries)

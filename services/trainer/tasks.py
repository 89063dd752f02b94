"""Celery tasks: find the use case, call it, and make sure that a failure ends the job with a reason."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any

import celery

from services.common.runtime.errors import Overloaded, ServiceError, Unavailable
from services.common.runtime.queues import (
    CONSUME_CRITIQUES_TASK,
    CRITIQUE_TASK,
    SUBMIT_TASK,
    TRAIN_TASK,
)
from services.trainer.handlers.critiquing import Critiquing
from services.trainer.handlers.submitting import Submission, Submitting
from services.trainer.handlers.training import Training, fail
from services.trainer.ports import Record

log = logging.getLogger(__name__)

RETRIED = (Unavailable, Overloaded)
RETRY_COUNT = 5
RETRY_DELAY_S = 2.0


def register_tasks(
    app: celery.Celery,
    record: Record,
    submitting: Submitting,
    critiquing: Critiquing,
    training: Training,
    read_submission: Callable[[dict[str, Any]], Submission],
) -> None:
    """Give `app` its four tasks. A neighbour that is away is waited for, a bounded number of times."""

    def run_step(task: celery.Task, step: Callable[[str], None], job_id: str) -> None:
        try:
            step(job_id)
        except RETRIED as error:
            if task.request.retries < RETRY_COUNT:
                log.info("step tried again", extra={"job_id": job_id, "kind": error.kind})
                raise task.retry(exc=error, countdown=RETRY_DELAY_S * 2**task.request.retries) from error
            fail(record, job_id, error, "")
        except ServiceError as error:
            log.info("job failed", extra={"job_id": job_id, "kind": error.kind})
            fail(record, job_id, error, "")
        except Exception as error:  # a bug: the job ends, the worker goes on, the stack is in the log
            request_id = uuid.uuid4().hex
            log.exception("job failed", extra={"job_id": job_id, "request_id": request_id})
            fail(record, job_id, error, request_id)

    @app.task(name=CRITIQUE_TASK, bind=True, max_retries=RETRY_COUNT)
    def critique(task: celery.Task, job_id: str) -> None:
        run_step(task, critiquing.critique, job_id)

    @app.task(name=TRAIN_TASK, bind=True, max_retries=RETRY_COUNT)
    def train(task: celery.Task, job_id: str) -> None:
        run_step(task, training.train, job_id)

    @app.task(name=CONSUME_CRITIQUES_TASK, bind=True, max_retries=RETRY_COUNT)
    def consume_critiques(task: celery.Task, batch: dict[str, Any]) -> None:
        try:
            critiquing.consume(batch)
        except RETRIED as error:
            raise task.retry(exc=error, countdown=RETRY_DELAY_S * 2**task.request.retries) from error

    @app.task(name=SUBMIT_TASK, bind=True, max_retries=RETRY_COUNT)
    def submit(task: celery.Task, request: dict[str, Any]) -> None:
        try:
            job = submitting.submit(read_submission(request))
        except RETRIED as error:
            raise task.retry(exc=error, countdown=RETRY_DELAY_S * 2**task.request.retries) from error
        except ServiceError as error:
            # Nobody waits for an answer on the queue: what was wrong is kept where the submitter can read it.
            record.set_aside("", request, error.message)
            log.info("submission refused", extra={"kind": error.kind})
            return
        log.info("submitted", extra={"job_id": job.job_id})

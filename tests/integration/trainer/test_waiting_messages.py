"""What the queues of a real Redis hold."""

from __future__ import annotations

from pathlib import Path

import redis

from services.common.runtime.broker import Broker
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.queues import (
    CONSUME_CRITIQUES_TASK,
    CRITIQUES_QUEUE,
    JOBS_QUEUE,
    SUBMIT_TASK,
    URGENT_QUEUE,
)
from services.trainer.adapters import celery_queue
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import Priority
from tests.unit.trainer.made_up import make_request


def test_jobs_that_wait_are_found_in_every_queue_among_rubbish_and_messages_that_name_none(
    broker_url: str, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(celery_queue, "_PAGE", 2)
    record, app = JobRecord(FolderStore(tmp_path)), build_app(Broker(broker_url))
    queue = CeleryQueue(app)
    assert queue.waiting_jobs() == set()
    jobs = [record.file(make_request(priority=priority)) for priority in [*Priority, Priority.BATCH, Priority.BATCH]]
    for job in jobs:
        queue.send_critique(job)
    queue.send_train(jobs[0])
    app.send_task(SUBMIT_TASK, kwargs={"request": {"job_id": "x"}}, queue=JOBS_QUEUE, ignore_result=True)
    app.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": {}}, queue=CRITIQUES_QUEUE, ignore_result=True)
    with redis.Redis.from_url(broker_url) as client:
        client.lpush(URGENT_QUEUE, b"\x80rubbish", b"[]", b'{"body": "e30="}', b'{"body": 1}')
        assert queue.waiting_jobs() == {job.job_id for job in jobs}
        client.delete(URGENT_QUEUE)
    assert queue.waiting_jobs() == {job.job_id for job in jobs if job.request.priority is not Priority.URGENT}

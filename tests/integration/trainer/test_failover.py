"""A Redis that becomes a replica for a while, as at a failover: it refuses what it took before, and its connections stay."""

from __future__ import annotations

import signal

import redis

from services.common.runtime.queues import JOBS_QUEUE, SUBMIT_TASK
from services.trainer.adapters.celery_queue import build_app
from tests.integration.trainer.conftest import Trainer
from tests.support.waiting import wait_for

TAKEN_S = 60.0


def test_a_worker_outlasts_it_and_takes_what_comes_afterwards(trainer: Trainer):
    worker = trainer.start("worker")
    with redis.Redis.from_url(trainer.broker_url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        wait_for(lambda: "replica" in trainer.logs(), TAKEN_S)
        client.execute_command("REPLICAOF", "NO", "ONE")
    build_app(trainer.broker).send_task(SUBMIT_TASK, kwargs={"request": "odd"}, queue=JOBS_QUEUE, ignore_result=True)
    wait_for(lambda: any(trainer.store.list("unclaimed")), TAKEN_S)
    assert worker.process.poll() is None


def test_a_worker_that_is_told_to_go_ends_well(trainer: Trainer):
    worker = trainer.start("worker")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.process.wait(TAKEN_S) == 0

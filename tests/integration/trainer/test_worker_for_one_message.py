"""A worker for one message, as the autoscaler starts them, beside one that takes critiques only."""

from __future__ import annotations

import redis

from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, JOBS_QUEUE, SUBMIT_TASK
from services.trainer.adapters.celery_queue import build_app
from services.trainer.domain.job import JobState
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.support.waiting import wait_for

ONCE = {"worker_queues": "jobs", "worker_once": "true"}


def test_it_does_one_step_whole_leaves_the_next_message_and_ends_well(trainer: Trainer):
    job = make_waiting_job(trainer, write_data_and_model(trainer))
    app = build_app(trainer.broker)
    with redis.Redis.from_url(trainer.broker_url) as client:
        trainer.start("worker", worker_queues="critiques")
        for batch in make_batches(trainer, job, is_spurious=False):
            content = {"batch": batch.model_dump(mode="json")}
            app.send_task(CONSUME_CRITIQUES_TASK, kwargs=content, queue=CRITIQUES_QUEUE, ignore_result=True)
        wait_for(lambda: client.llen(JOBS_QUEUE) == 1, 20)
        app.send_task(SUBMIT_TASK, kwargs={"request": {}}, queue=JOBS_QUEUE, ignore_result=True)
        once = trainer.start("worker", **ONCE)
        assert once.process.wait(60) == 0
        assert trainer.record.load(job.job_id).state == JobState.REJECTED
        assert client.llen(JOBS_QUEUE) == 1
        assert client.hlen("unacked") == 0
        assert not list((trainer.root / "store").glob("unclaimed/*"))


def test_without_a_message_it_ends_well_after_a_while(trainer: Trainer):
    assert trainer.start("worker", worker_idle_s="0.1", **ONCE).process.wait(20) == 0

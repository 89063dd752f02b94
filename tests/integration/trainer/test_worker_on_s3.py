"""A whole job of a worker whose record lies in a bucket."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from services.common.runtime.audit_log import AuditLog
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE
from services.common.vision.model_bundle import load_bundle
from services.trainer.adapters.celery_queue import build_app
from services.trainer.domain.job import JobState
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.support.s3_server import S3Server
from tests.support.waiting import wait_for

TRAINED_S = 300.0


def _is_over(trainer: Trainer, frozen_at: float) -> bool:
    return time.monotonic() > frozen_at + 3.0


def _is_given_up(trainer: Trainer, frozen_at: float) -> bool:
    return "step tried again" in trainer.logs()


@pytest.mark.parametrize("is_back", [_is_over, pytest.param(_is_given_up, marks=pytest.mark.slow)])
def test_a_job_whose_bucket_goes_away_while_it_trains_goes_on_when_it_is_back(
    trainer: Trainer, s3_root: str, s3_server: S3Server, is_back: Callable[[Trainer, float], bool]
):
    trainer.store_root = s3_root
    digest = write_data_and_model(trainer)
    trainer.start("worker", recovery_interval_s="600")
    job = make_waiting_job(trainer, digest)
    app = build_app(trainer.broker)
    batches = make_batches(trainer, job)
    for batch in batches:
        content = batch.model_dump(mode="json")
        app.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": content}, queue=CRITIQUES_QUEUE)
    wait_for(lambda: trainer.record.load(job.job_id).state is JobState.TRAINING, 60)
    s3_server.freeze()
    frozen_at = time.monotonic()
    try:
        wait_for(lambda: is_back(trainer, frozen_at), 90)
    finally:
        s3_server.thaw()

    def is_trained() -> bool:
        found = trainer.record.load(job.job_id)
        assert not found.state.is_final, found.events[-1].reason + trainer.logs()[-3000:]
        return found.state is JobState.EVALUATING

    wait_for(is_trained, TRAINED_S)
    states = [event.state for event in trainer.record.load(job.job_id).events]
    assert states == [JobState.QUEUED, JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING]
    assert len(trainer.record.critiqued(job.job_id)) == sum(len(batch.critiques) for batch in batches)
    metrics = trainer.record.read(job.job_id, "metrics.json")
    assert metrics["decision"]["is_accepted"], metrics["decision"]["reason"]
    with trainer.store.fetch(metrics["bundle_path"]) as folder:
        assert load_bundle(folder).provenance["parent"]["digest"] == digest
    assert not trainer.store.exists("unclaimed")
    assert not (trainer.root / "store").exists()
    assert AuditLog(trainer.store).verify().fault is None

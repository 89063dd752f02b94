"""The worker process on a real Redis: what comes through the queues, and what happens to a job when its worker goes."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from plumbline.stack.processes import free_port
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, JOBS_QUEUE, SUBMIT_TASK, TRAIN_TASK
from services.common.vision.model_bundle import load_bundle
from services.trainer.adapters.job_record import checkpoints_path
from services.trainer.domain.job import Job, JobState
from tests.integration.trainer.conftest import ROOT, Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.integration.trainer.training_processes import find_trainings, is_running
from tests.support.metrics_page import MetricsPage
from tests.support.waiting import wait_for

TRAINED_S = 120.0
LONG = {"epochs": 200}


def _examples() -> list[str]:
    """The Python blocks of docs/queues.md: with Celery, with a Redis client."""
    text = (ROOT / "docs" / "queues.md").read_text()
    return [part.split("```")[0] for part in text.split("```python\n")[1:]]


def _send(trainer: Trainer, task: str, queue: str, argument: str, content: object) -> None:
    """Send a message with the documented plain-Redis example, in a process without our code."""
    command = [sys.executable, "-c", _examples()[1], trainer.broker_url, task, queue, argument]
    subprocess.run(command, input=json.dumps(content), text=True, check=True, timeout=60, cwd="/")


def _deliver(trainer: Trainer, job: Job, is_spurious: bool = True) -> None:
    for batch in make_batches(trainer, job, is_spurious):
        _send(trainer, CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, "batch", batch.model_dump(mode="json"))


def _wait_for(trainer: Trainer, job: Job, *states: JobState) -> Job:
    def look() -> Job | None:
        found = trainer.record.load(job.job_id)
        assert found.state in states or not found.state.is_final, found.events[-1].reason + trainer.logs()[-3000:]
        return found if found.state in states else None

    return wait_for(look, TRAINED_S)


def _unclaimed(trainer: Trainer) -> list[dict]:
    return [json.loads(path.read_text()) for path in (trainer.root / "store" / "unclaimed").glob("*.json")]


@pytest.fixture
def digest(trainer: Trainer) -> str:
    return write_data_and_model(trainer)


def test_critiques_sent_with_a_plain_redis_client_make_a_challenger(trainer: Trainer, digest: str):
    trainer.start("worker")
    job = make_waiting_job(trainer, digest)
    _deliver(trainer, job)
    states = [event.state for event in _wait_for(trainer, job, JobState.EVALUATING).events]
    assert states == [JobState.QUEUED, JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING]
    metrics = trainer.record.read(job.job_id, "metrics.json")
    assert metrics["after"]["swap_accuracy"] > metrics["before"]["swap_accuracy"] + 0.2
    assert metrics["decision"]["is_accepted"], metrics["decision"]["reason"]
    bundle = load_bundle(trainer.root / "store" / metrics["bundle_path"])
    assert metrics["bundle_path"].endswith(bundle.digest.removeprefix("sha256:"))
    assert bundle.provenance["job_id"] == job.job_id
    assert bundle.provenance["parent"]["digest"] == digest
    assert "the block in the corner" in (trainer.root / "store" / metrics["bundle_path"] / "README.md").read_text()
    assert trainer.record.verdict_counts(job.job_id)["SPURIOUS"] == sum(
        metrics["pictures"][part] for part in ("masked", "held_out")
    )
    assert _unclaimed(trainer) == []


def test_a_job_without_a_spurious_segment_is_rejected_and_the_workers_page_tells_of_it(trainer: Trainer, digest: str):
    address = f"127.0.0.1:{free_port()}"
    trainer.start("worker", worker_metrics_listen=address)
    job = make_waiting_job(trainer, digest)
    _deliver(trainer, job, is_spurious=False)
    last = _wait_for(trainer, job, JobState.REJECTED).events[-1]
    assert "nothing to align" in last.reason
    step = {"task": TRAIN_TASK, "outcome": "DONE"}
    page = wait_for(lambda: (read := MetricsPage(address)).sum("plumbline_trainer_steps_total", **step) and read, 20)
    assert page.values("plumbline_trainer_gate_decisions_total", "decision") == {"ACCEPTED": 0, "REJECTED": 1}
    assert page.sum("plumbline_trainer_trainings_total", outcome="MEASURED") == 1
    assert page.sum("plumbline_trainer_training_seconds_sum") > 0
    taken = sum(len(batch.critiques) for batch in make_batches(trainer, job))
    assert page.values("plumbline_trainer_critiques_total", "outcome") == {
        "TAKEN": taken,
        "ALREADY_THERE": 0,
        "SET_ASIDE": 0,
    }
    assert job.job_id not in page.text


def test_rubbish_on_the_queues_stops_nobody(trainer: Trainer, digest: str):
    trainer.start("worker")
    with redis.Redis.from_url(trainer.broker_url) as client:
        for queue in (CRITIQUES_QUEUE, JOBS_QUEUE):
            body = pickle.dumps({"args": [], "kwargs": {}}).hex()
            properties = {"delivery_tag": f"t-{queue}", "delivery_info": {"exchange": "", "routing_key": queue}}
            headers = {"task": "plumbline.critique", "id": "1", "lang": "py"}
            envelope = {"body": body, "headers": headers, "properties": properties, "content-encoding": "binary"}
            client.lpush(queue, json.dumps(envelope | {"content-type": "application/x-python-serialize"}))
    _send(trainer, "plumbline.no_such_task", JOBS_QUEUE, "x", 1)
    _send(trainer, CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, "wrong_argument", {})
    _send(trainer, CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, "batch", ["not", "a", "batch"])
    _send(trainer, TRAIN_TASK, JOBS_QUEUE, "job_id", "../../etc")
    _send(trainer, SUBMIT_TASK, JOBS_QUEUE, "request", "no object")
    _send(trainer, SUBMIT_TASK, JOBS_QUEUE, "request", {"options": {"seed": "many"}})
    job = make_waiting_job(trainer, digest)
    _deliver(trainer, job, is_spurious=False)
    _wait_for(trainer, job, JobState.REJECTED)
    wait_for(lambda: len(_unclaimed(trainer)) == 3, 20)


def test_a_refused_submission_from_the_celery_example_lies_unclaimed_with_its_reason(trainer: Trainer):
    trainer.start("worker")
    request = {"model": {"name": "digits"}, "options": {"seed": -1}, "specification": {"rules": [{"className": "all"}]}}
    command = [sys.executable, "-c", _examples()[0], trainer.broker_url]
    subprocess.run(command, input=json.dumps(request), text=True, check=True, timeout=60, cwd="/")
    (kept,) = wait_for(lambda: _unclaimed(trainer), 20)
    assert kept["content"] == request
    assert "specification.rules[0].should_matter" in kept["reason"]


def _wait_until_it_trains(trainer: Trainer, job: Job) -> None:
    with redis.Redis.from_url(trainer.broker_url) as client:
        wait_for(lambda: b"batch" in (client.get(f"plumbline:progress:{job.job_id}") or b""), 60)


def test_a_worker_that_is_told_to_go_hands_its_training_on(trainer: Trainer, digest: str):
    first = trainer.start("worker")
    job = make_waiting_job(trainer, digest, **LONG)
    _deliver(trainer, job)
    _wait_until_it_trains(trainer, job)
    begun_at = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(30)
    assert time.monotonic() - begun_at < 15
    assert trainer.record.load(job.job_id).state == JobState.TRAINING
    trainer.start("worker")
    _wait_for(trainer, job, JobState.EVALUATING)


def test_a_job_whose_worker_was_killed_is_recovered_by_another(trainer: Trainer, digest: str):
    quick = {"lease_s": "2", "recovery_interval_s": "2"}
    first = trainer.start("worker", **quick)
    job = make_waiting_job(trainer, digest, **LONG)
    _deliver(trainer, job)
    _wait_until_it_trains(trainer, job)
    left_behind = find_trainings(first.process.pid)
    first.process.kill()
    first.process.wait()
    assert len(left_behind) == 1
    wait_for(lambda: not any(map(is_running, left_behind)), 10)
    assert list(trainer.store.list(checkpoints_path(job.job_id)))
    trainer.start("worker", **quick)
    _wait_for(trainer, job, JobState.EVALUATING)
    first_attempt = [trainer.record.read(job.job_id, f"attempts/train-0{end}.json") for end in ("", ".ended")]
    assert [note is None for note in first_attempt] == [False, True]


@pytest.mark.parametrize("is_training", [False, True], ids=["before it trains", "while it trains"])
def test_a_job_survives_a_wiped_redis(trainer: Trainer, digest: str, is_training: bool):
    trainer.start("worker", lease_s="2", recovery_interval_s="2")
    job = make_waiting_job(trainer, digest, **LONG)
    if is_training:
        _deliver(trainer, job)
        _wait_until_it_trains(trainer, job)
    with redis.Redis.from_url(trainer.broker_url) as client:
        client.flushall()
    if not is_training:
        _deliver(trainer, job)
    _wait_for(trainer, job, JobState.EVALUATING)


def test_a_job_cancelled_while_it_trains_stops_its_training_process(trainer: Trainer, digest: str):
    worker = trainer.start("worker")
    job = make_waiting_job(trainer, digest, **LONG)
    _deliver(trainer, job)
    _wait_until_it_trains(trainer, job)
    trainer.record.advance(trainer.record.load(job.job_id), JobState.CANCELLED)
    wait_for(lambda: not _children_of(worker.process.pid), 20)
    assert trainer.record.read(job.job_id, "metrics.json") is None


def _children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or [
        child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]

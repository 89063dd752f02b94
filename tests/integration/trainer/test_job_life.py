"""Which jobs come first, how they come back after Redis was wiped, and how many one submitter may have: real Redis, worker and API."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import grpc
import pytest
import redis
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.stack.processes import free_port
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, URGENT_QUEUE
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.redis_lease import RedisLease
from services.trainer.adapters.redis_progress import RedisProgress
from services.trainer.domain.job import Job, JobState, Priority
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.support.metrics_page import MetricsPage
from tests.support.waiting import wait_for
from tests.unit.trainer.made_up import make_request

TRAINED_S = 300.0
LATER = {"recovery_interval_s": "600"}
"""The workers' own recovery has no part in what is seen."""


def _file(trainer: Trainer, priority: Priority, count: int) -> list[Job]:
    """Jobs that fail as soon as a worker takes them: their data set is not there."""
    return [trainer.record.file(make_request(dataset_path="gone", priority=priority)) for _ in range(count)]


def _ended_at(trainer: Trainer, jobs: list[Job]) -> list[float]:
    """When each job ended, in their order."""

    def look() -> list[float] | None:
        last = [trainer.record.load(job.job_id).events[-1] for job in jobs]
        return [event.at.timestamp() for event in last] if all(event.state.is_final for event in last) else None

    return wait_for(look, 60)


@pytest.fixture
def client(trainer: Trainer) -> Iterator[Client]:
    """The trainer's API is up."""
    closed = f"127.0.0.1:{free_port()}"
    with Client(explainer=closed, lvlm=closed, trainer=trainer.listen) as made:
        yield made


def _start_api(trainer: Trainer, client: Client, **settings: str) -> None:
    trainer.start("api", **settings)

    def is_up() -> bool:
        try:
            client.jobs()
        except PlumblineError:
            return False
        return True

    wait_for(is_up, 30)


def test_a_worker_takes_critiques_then_urgent_then_normal_then_batch_jobs_whatever_came_first(trainer: Trainer):
    app = build_app(trainer.broker)
    filed = {priority: _file(trainer, priority, 6) for priority in (Priority.BATCH, Priority.NORMAL, Priority.URGENT)}
    for job in itertools.chain(*filed.values()):
        CeleryQueue(app).send_critique(job)
    for number in range(6):
        app.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": {"job_id": f"none-{number}"}}, queue=CRITIQUES_QUEUE)
    trainer.start("worker", worker_threads="1", **LATER)
    batch, normal, urgent = (_ended_at(trainer, jobs) for jobs in filed.values())
    critiques = [path.stat().st_mtime for path in (trainer.root / "store" / "unclaimed").glob("*.json")]
    assert len(critiques) == 6
    order = [*sorted(critiques), *urgent, *normal, *batch]
    assert order == sorted(order)


def test_an_urgent_job_does_not_wait_for_batch_jobs_that_were_there_before(trainer: Trainer):
    queue = CeleryQueue(build_app(trainer.broker))
    batch = _file(trainer, Priority.BATCH, 60)
    for job in batch:
        queue.send_critique(job)
    trainer.start("worker", worker_threads="1", **LATER)
    wait_for(lambda: trainer.record.load(batch[0].job_id).state.is_final, 60)
    (urgent,) = _file(trainer, Priority.URGENT, 1)
    queue.send_critique(urgent)
    (urgent_at,) = _ended_at(trainer, [urgent])
    assert urgent_at < _ended_at(trainer, batch)[-1]


def test_jobs_of_every_priority_go_on_through_their_own_queue_after_a_neighbour_was_away(trainer: Trainer):
    digest = write_data_and_model(trainer)
    requests = [make_request(model_digest=digest, dataset_path="stripes", priority=priority) for priority in Priority]
    jobs = [trainer.record.file(request) for request in requests]
    for job in jobs:
        CeleryQueue(build_app(trainer.broker)).send_critique(job)
    worker = trainer.start("worker", **LATER)
    wait_for(lambda: trainer.logs().count("step tried again") >= len(jobs), 60)
    worker.process.terminate()
    worker.process.wait(30)
    with redis.Redis.from_url(trainer.broker_url) as broker:
        waiting = [broker.llen(queue) for queue in ("plumbline.jobs.urgent", "plumbline.jobs", "plumbline.jobs.batch")]
    assert waiting == [1, 1, 1]


def test_after_redis_was_wiped_a_job_goes_on_as_soon_as_somebody_asks(trainer: Trainer, client: Client):
    digest = write_data_and_model(trainer)
    trainer.start("worker", lease_s="2", **LATER)
    _start_api(trainer, client, lease_s="2", **LATER)
    job = make_waiting_job(trainer, digest)
    queued = _file(trainer, Priority.NORMAL, 1)[0]
    app = build_app(trainer.broker)
    for batch in make_batches(trainer, job):
        content = batch.model_dump(mode="json")
        app.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": content}, queue=CRITIQUES_QUEUE)
    with redis.Redis.from_url(trainer.broker_url) as broker:
        wait_for(lambda: b"batch" in (broker.get(f"plumbline:progress:{job.job_id}") or b""), 60)
        assert broker.exists(f"plumbline:lease:{job.job_id}:train")
        broker.flushall()
    assert client.recover() in (1, 2)  # the worker may have taken its lease again before anybody asked
    assert client.recover() == 0
    assert wait_for(lambda: trainer.record.load(queued.job_id).state.is_final, 30)

    def is_trained() -> bool:
        found = trainer.record.load(job.job_id)
        assert found.state == JobState.EVALUATING or not found.state.is_final, found.events[-1].reason
        return found.state == JobState.EVALUATING

    assert wait_for(is_trained, TRAINED_S)
    told = RedisProgress(trainer.broker).look(job.job_id)
    assert (told.done, told.eta_s) == (told.total, 0.0)


def test_the_apis_page_tells_how_jobs_queues_and_leases_stand(trainer: Trainer, client: Client):
    queued = _file(trainer, Priority.URGENT, 2)
    ended = trainer.record.advance(*_file(trainer, Priority.NORMAL, 1), JobState.CANCELLED)
    for job in queued:
        CeleryQueue(build_app(trainer.broker)).send_critique(job)
    address = f"127.0.0.1:{free_port()}"
    with RedisLease(trainer.broker).hold(queued[0].job_id, "train"):
        _start_api(trainer, client, metrics_listen=address)
        page = wait_for(lambda: (read := MetricsPage(address)).sum("plumbline_source_up") == 2 and read, 20)
    jobs = page.values("plumbline_trainer_jobs", "state")
    assert jobs.keys() == set(JobState)
    assert {state: count for state, count in jobs.items() if count} == {"QUEUED": 2, "CANCELLED": 1}
    oldest = page.values("plumbline_trainer_oldest_job_seconds", "state")
    assert oldest.keys() == {state for state in JobState if not state.is_final}
    assert {state for state, age_s in oldest.items() if age_s > 0} == {"QUEUED"}
    waiting = page.values("plumbline_trainer_queue_messages", "queue")
    assert (sum(waiting.values()), waiting[URGENT_QUEUE]) == (2, 2)
    assert page.values("plumbline_trainer_leases", "step") == {"critique": 0, "train": 1}
    assert page.sum("plumbline_calls_total", method="ListAlignments", code="OK") >= 1
    assert not any(job.job_id in page.text for job in (*queued, ended))


def test_a_job_that_a_worker_holds_is_not_put_back(trainer: Trainer, client: Client):
    _start_api(trainer, client)
    held, free = _file(trainer, Priority.NORMAL, 2)
    with redis.Redis.from_url(trainer.broker_url) as broker:
        broker.set(f"plumbline:lease:{held.job_id}:critique", "somebody", px=30_000)
        assert client.recover() == 1
        assert broker.exists(f"plumbline:recovered:{free.job_id}")
        assert not broker.exists(f"plumbline:recovered:{held.job_id}")


def test_a_submitter_above_the_quota_is_told_when_to_come_back(trainer: Trainer, client: Client):
    _start_api(trainer, client, max_open_jobs_per_submitter="2")
    for _ in range(2):
        trainer.record.file(make_request(submitter="ward 3"))
    request = pb.SubmitAlignmentRequest(
        model={"name": "stripes"},
        submitter="ward 3",
        specification={"task": "t", "rules": [{"class_name": "all", "should_matter": "the stripe"}]},
    )
    with pytest.raises(PlumblineError, match="'ward 3' has 2 open jobs of at most 2") as caught:
        client.submit(request)
    assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED.name
    retry = error_details_pb2.RetryInfo()
    details = rpc_status.from_call(caught.value.__cause__).details
    assert any(detail.Unpack(retry) for detail in details)
    assert retry.retry_delay.seconds == 60


def test_jobs_are_listed_by_state_and_submitter(trainer: Trainer, client: Client):
    _start_api(trainer, client)
    mine, other = (trainer.record.file(make_request(submitter=name)) for name in ("ward 3", "ward 4"))
    cancelled = trainer.record.file(make_request(submitter="ward 3"))
    client.cancel(cancelled.job_id, "no need")
    assert [job.job_id for job in client.jobs(submitter="ward 3")] == [cancelled.job_id, mine.job_id]
    assert [job.job_id for job in client.jobs(states=["JOB_STATE_QUEUED"])] == [other.job_id, mine.job_id]
    assert [job.job_id for job in client.jobs(states=["JOB_STATE_CANCELLED"])] == [cancelled.job_id]


def test_a_job_that_ended_otherwise_than_well_is_the_only_one_that_is_retried(trainer: Trainer, client: Client):
    _start_api(trainer, client)
    job = trainer.record.file(make_request())
    with pytest.raises(PlumblineError, match="is QUEUED; only one that is FAILED, CANCELLED, REJECTED") as caught:
        client.retry(job.job_id, "k")
    assert caught.value.code == grpc.StatusCode.FAILED_PRECONDITION.name

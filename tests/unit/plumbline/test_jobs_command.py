"""What `plumbline jobs` asks a trainer for and how it tells a job's progress; the trainer is a stand-in that keeps the requests."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest
from google.protobuf.message import Message
from rich.console import Console
from typer.testing import Result

from plumbline.cli.watching import follow
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from tests.support.commands import run_command, serve


class Trainer(rpc.TrainerServiceServicer):
    """Does as it is told and keeps what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[Message] = []

    def ListAlignments(self, request, context):
        self.asked.append(request)
        return pb.ListAlignmentsResponse(alignments=[{"job_id": "job-1", "state": pb.JOB_STATE_FAILED}])

    def RetryAlignment(self, request, context):
        self.asked.append(request)
        return pb.RetryAlignmentResponse(alignment={"job_id": "job-2", "retry_of": request.job_id})

    def RecoverAlignments(self, request, context):
        self.asked.append(request)
        return pb.RecoverAlignmentsResponse(recovered_count=3)


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    with serve(made) as made.address:
        yield made


def jobs(trainer: Trainer, *options: str) -> Result:
    return run_command("jobs", *options, trainer=trainer.address)


def test_jobs_are_asked_for_by_state_and_submitter(trainer: Trainer):
    result = jobs(trainer, "--state", "failed", "--state", "awaiting-review", "--submitter", "ward 3")
    assert result.exit_code == 0, result.output
    (request,) = trainer.asked
    assert list(request.states) == [pb.JOB_STATE_FAILED, pb.JOB_STATE_AWAITING_REVIEW]
    assert request.submitter == "ward 3"
    assert "job-1" in result.output


@pytest.mark.parametrize("state", ["lost", "unspecified"])
def test_a_state_that_there_is_not_is_refused_and_nothing_asked(trainer: Trainer, state: str):
    assert jobs(trainer, "--state", state).exit_code == 2
    assert trainer.asked == []


def test_a_retried_job_is_named_and_each_retry_is_one_of_its_own(trainer: Trainer):
    results = [jobs(trainer, "--retry", "job-1") for _ in range(2)]
    assert all("job job-2" in result.output for result in results)
    retries = [request for request in trainer.asked if isinstance(request, pb.RetryAlignmentRequest)]
    assert [request.job_id for request in retries] == ["job-1", "job-1"]
    assert len({request.idempotency_key for request in retries}) == 2


def test_recovered_jobs_are_counted(trainer: Trainer):
    result = jobs(trainer, "--recover")
    assert isinstance(trainer.asked[0], pb.RecoverAlignmentsRequest)
    assert "3 jobs were put back in the queue" in result.output


@pytest.mark.parametrize(
    ("eta_s", "told"),
    [(0.4, "0 s left"), (89.0, "89 s left"), (91.0, "2 min left"), (3600.0, "60 min left"), (9000.0, "2.5 h left")],
)
def test_the_time_left_is_told_while_a_job_is_followed(eta_s: float, told: str):
    out = StringIO()
    progress = pb.Progress(done=1, total=10, unit="batch", eta_s=eta_s)
    follow(Console(file=out, width=100), [pb.Alignment(state=pb.JOB_STATE_TRAINING, progress=progress)])
    assert told in out.getvalue()


@pytest.mark.parametrize("eta_s", [None, 0.0])
def test_no_time_is_told_where_none_is_known_or_left(eta_s: float | None):
    out = StringIO()
    progress = pb.Progress(done=10, total=10, unit="batch", eta_s=eta_s)
    follow(Console(file=out, width=100), [pb.Alignment(state=pb.JOB_STATE_TRAINING, progress=progress)])
    assert "left" not in out.getvalue()

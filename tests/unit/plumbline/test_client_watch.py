"""A job that is followed is followed on when the trainer goes away for a moment; the trainer is a stand-in that does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import grpc
import pytest

from plumbline import client as client_module
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from tests.support.commands import NOWHERE, run_command, serve

TRAINING, PUBLISHED = pb.JOB_STATE_TRAINING, pb.JOB_STATE_PUBLISHED
ENDS = {PUBLISHED, pb.JOB_STATE_REJECTED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED}


class Trainer(rpc.TrainerServiceServicer):
    """Goes away after what it says in each of its lives; in the last one it stays, until the job has ended."""

    def __init__(self, *lives: list[pb.JobState]) -> None:
        self.address = ""
        self.lives = list(lives)
        self.callers: list[bytes] = []

    def WatchAlignment(self, request, context):
        self.callers.append(dict(context.invocation_metadata()).get("plumbline-caller-bin"))
        state = None
        for state in self.lives.pop(0):
            yield pb.WatchAlignmentResponse(alignment={"job_id": request.job_id, "state": state})
        while not self.lives and context.is_active() and state not in ENDS:
            time.sleep(0.02)
        if self.lives:
            context.abort(grpc.StatusCode.UNAVAILABLE, "draining")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_ASK_AGAIN_S", 0.05)


def watch(trainer: Trainer, timeout_s: float = 30) -> Iterator[pb.JobState]:
    with serve(trainer) as address, Client(NOWHERE, NOWHERE, address, caller="ada") as client:
        for alignment in client.watch("job-1", timeout_s):
            yield alignment.state


def test_a_trainer_that_begins_anew_is_asked_on_and_nothing_is_told_twice():
    trainer = Trainer([TRAINING], [], [], [TRAINING, PUBLISHED])
    assert list(watch(trainer)) == [TRAINING, PUBLISHED]
    assert trainer.callers == [b"ada"] * 4


def test_a_trainer_that_stays_away_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client_module, "_AWAY_S", 0.2)
    with pytest.raises(PlumblineError, match="draining"):
        list(watch(Trainer([TRAINING], *[[]] * 1000)))


def test_a_trainer_that_never_answered_is_told_at_once():
    trainer = Trainer([], [PUBLISHED])
    with pytest.raises(PlumblineError, match="draining"):
        list(watch(trainer))
    assert len(trainer.callers) == 1


def test_a_job_that_takes_longer_than_it_is_followed_is_told_to_go_on():
    with pytest.raises(PlumblineError, match="job job-1 has not ended in 1 s; it goes on"):
        list(watch(Trainer([TRAINING]), timeout_s=1))


def test_the_command_follows_a_job_to_its_end_over_a_trainer_that_begins_anew():
    with serve(Trainer([TRAINING], [PUBLISHED])) as address:
        result = run_command("jobs", "--watch", "job-1", trainer=address)
    assert result.exit_code == 0, result.output
    assert "PUBLISHED" in result.output


@pytest.mark.parametrize(("end", "status"), [("PUBLISHED", 0), ("REJECTED", 0), ("FAILED", 1), ("CANCELLED", 1)])
def test_the_command_ends_as_the_job_did(end: str, status: int):
    with serve(Trainer([pb.JobState.Value(f"JOB_STATE_{end}")])) as address:
        result = run_command("jobs", "--watch", "job-1", trainer=address)
    assert (result.exit_code, end in result.output) == (status, True)

"""Under TLS the record names whom the certificate names, whatever the request says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common.runtime.errors import NotFound
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.submitting import Submission
from services.trainer.handlers.watching import Watching
from services.trainer.servicer import TrainerServicer
from tests.support.certificates import Authority
from tests.support.guarded_server import guarded_settings, serving
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.review_stage import PICTURES, ReviewStage


class _Refusing:
    """Keeps what was submitted and files nothing."""

    def __init__(self) -> None:
        self.submitters: list[str] = []

    def submit(self, submission: Submission) -> None:
        self.submitters.append(submission.submitter)
        raise NotFound("no such model")


@pytest.fixture
def stage(tmp_path: Path) -> ReviewStage:
    return ReviewStage(tmp_path / "store")


@pytest.fixture
def refusing() -> _Refusing:
    return _Refusing()


@pytest.fixture
def anna(tmp_path: Path, stage: ReviewStage, refusing: _Refusing) -> Iterator[Client]:
    """A reviewer at a trainer under TLS."""
    recovering = Recovering(stage.record, stage.queue, stage.completing, stage.lease, timedelta(0))
    watching = Watching(stage.record, LastProgress())
    servicer = TrainerServicer(refusing, watching, stage.consuming, stage.reviewing, None, recovering)
    authority, roles = Authority(), tmp_path / "roles.yaml"
    roles.write_text("reviewer: [anna]")
    settings = guarded_settings(authority.write(tmp_path / "server", "server"), roles)
    with serving(settings, lambda server: rpc.add_TrainerServiceServicer_to_server(servicer, server)) as address:
        files = authority.write(tmp_path / "anna", "anna")
        with Client(address, address, address, caller="bob", certificates=files) as client:
            yield client


def test_a_review_is_the_certificates(stage: ReviewStage, anna: Client):
    stage.consume(*PICTURES)
    decision = pb.PictureDecision(image_digest=PICTURES[0], decision=pb.REVIEW_DECISION_ACCEPT)
    anna.review(stage.job_id, "bob", [decision])
    anna.finish_review(stage.job_id, "bob", accept_rest=True)
    assert [review.reviewer for review in stage.record.reviews(stage.job_id)] == ["anna", "anna"]


def test_a_cancellation_is_the_certificates(stage: ReviewStage, anna: Client):
    anna.cancel(stage.job_id, "not needed")
    assert stage.record.load(stage.job_id).events[-1].caller == "anna"


def test_a_job_is_filed_under_the_certificates_name(refusing: _Refusing, anna: Client):
    request = pb.SubmitAlignmentRequest(submitter="bob")
    request.specification.task = "read the digit"
    request.specification.rules.add(class_name="all", should_matter="the digit")
    with pytest.raises(PlumblineError, match="no such model"):
        anna.submit(request)
    assert refusing.submitters == ["anna"]

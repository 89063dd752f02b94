"""What `plumbline review` asks of the trainer, which is a stand-in that keeps the requests; and where `align --review` stops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from plumbline.cli.watching import until_review
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common import wire
from services.common.vision.critique import CritiqueBatch
from tests.conftest import png
from tests.support.commands import run_command, serve
from tests.unit.trainer.made_up import make_critique

DIGESTS = ["ab" * 32, "ac" * 32]
PICTURE = png(np.zeros((8, 8), np.uint8))


class Trainer(rpc.TrainerServiceServicer):
    """Has critiques of all `digests` and keeps what it was asked."""

    def __init__(self) -> None:
        self.address, self.digests = "", DIGESTS
        self.reviews: list[pb.ReviewCritiquesRequest] = []
        self.finished: list[pb.FinishReviewRequest] = []
        self.gave_pictures: list[bool] = []

    def ListCritiques(self, request, context):
        self.gave_pictures.append(not request.without_pictures)
        critique = wire.critique_to_proto(make_critique())
        data = b"" if request.without_pictures else PICTURE
        critiqued = [pb.CritiquedImage(critique=critique, image={"data": data}) for _ in self.digests]
        for picture, digest in zip(critiqued, self.digests, strict=True):
            picture.critique.image_digest = f"sha256:{digest}"
        critiqued[1].review.decision, critiqued[1].review.reviewer = pb.REVIEW_DECISION_REJECT, "Dr. Bob"
        return pb.ListCritiquesResponse(images=critiqued)

    def GetAlignment(self, request, context):
        return pb.GetAlignmentResponse(alignment={"job_id": request.job_id, "state": pb.JOB_STATE_AWAITING_REVIEW})

    def ReviewCritiques(self, request, context):
        self.reviews.append(request)
        return pb.ReviewCritiquesResponse()

    def FinishReview(self, request, context):
        self.finished.append(request)
        return pb.FinishReviewResponse()


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    with serve(made) as made.address:
        yield made


def review(trainer: Trainer, *options: str | Path) -> Result:
    return run_command("review", "job-1", *map(str, options), trainer=trainer.address)


def test_pictures_are_named_by_the_first_digits_of_their_digest(trainer):
    result = review(
        trainer, "--reviewer", "Ada", "--accept", "ab", "--reject", f"sha256:{DIGESTS[1][:9]}", "--reason", "r"
    )
    assert result.exit_code == 0, result.output
    (request,) = trainer.reviews
    assert (request.job_id, request.reviewer) == ("job-1", "Ada")
    assert [(asked.image_digest, asked.decision, asked.reason) for asked in request.decisions] == [
        (f"sha256:{DIGESTS[0]}", pb.REVIEW_DECISION_ACCEPT, "r"),
        (f"sha256:{DIGESTS[1]}", pb.REVIEW_DECISION_REJECT, "r"),
    ]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--accept", "a"], "--accept a: 2 pictures have a digest that begins so"),
        (["--reject", ""], "--reject: expected the first digits"),
        (["--accept", "sha256:"], "--accept: expected the first digits"),
        (["--reject", "fe"], "--reject fe: no critiqued picture has a digest that begins so"),
    ],
)
def test_digits_that_name_no_picture_or_several_are_told_and_nothing_asked(trainer, options, told):
    result = review(trainer, "--reviewer", "Ada", "--accept", "ab", *options)
    assert (result.exit_code, told in result.output, trainer.reviews) == (1, True, [])


@pytest.mark.parametrize("options", [["--accept", "ab"], ["--finish"], ["--finish", "--reviewer", " "]])
def test_who_decides_must_give_a_name(trainer, options):
    result = review(trainer, *options)
    assert (result.exit_code, "--reviewer: expected the name" in result.output) == (1, True)
    assert (trainer.reviews, trainer.finished) == ([], [])


def test_the_rest_is_accepted_only_at_the_end(trainer):
    assert review(trainer, "--reviewer", "Ada", "--accept-rest").exit_code == 1
    assert review(trainer, "--reviewer", "Ada", "--accept-rest", "--finish").exit_code == 0
    (asked,) = trainer.finished
    assert (asked.job_id, asked.reviewer, asked.accept_rest) == ("job-1", "Ada", True)


@pytest.mark.parametrize("form", ["one", "list", "batch", "batches"])
def test_edits_come_from_a_critique_a_list_or_batches(trainer, tmp_path, form):
    critique = make_critique(DIGESTS[0], reasons="mine")
    content = critique.model_dump(mode="json")
    batch = CritiqueBatch(job_id="job-1", critiques=[critique]).model_dump(mode="json")
    path = tmp_path / "edit.json"
    path.write_text(json.dumps({"one": content, "list": [content], "batch": batch, "batches": [batch]}[form]))
    result = review(trainer, "--reviewer", "Ada", "--edit", path)
    assert result.exit_code == 0, result.output
    (decision,) = trainer.reviews[0].decisions
    assert (decision.image_digest, decision.decision) == (critique.image_digest, pb.REVIEW_DECISION_EDIT)
    assert decision.edit == wire.critique_to_proto(critique)


@pytest.mark.parametrize("content", ["{", "3", "[[]]", '{"verdicts": [{}]}', '{"verdicts": 3}', '{"reasons": 3}'])
def test_edits_that_are_none_are_told_and_nothing_asked(trainer, tmp_path, content):
    path = tmp_path / "edit.json"
    path.write_text(content)
    result = review(trainer, "--reviewer", "Ada", "--edit", path)
    assert (result.exit_code, "edit.json: " in result.output, trainer.reviews) == (1, True, [])


def test_more_decisions_than_a_call_takes_are_sent_in_several(trainer):
    trainer.digests = [f"{number:064x}" for number in range(1002)]
    options = [option for digest in trainer.digests for option in ("--accept", digest)]
    assert review(trainer, "--reviewer", "Ada", *options, "--finish").exit_code == 0
    assert [len(request.decisions) for request in trainer.reviews] == [1000, 2]


def test_pictures_are_listed_with_their_verdicts_and_reviews(trainer):
    lines = review(trainer).output.splitlines()
    assert "1 spurious, 1 core" in next(line for line in lines if DIGESTS[0][:12] in line)
    assert "reject, Dr. Bob" in next(line for line in lines if DIGESTS[1][:12] in line)
    assert lines[-1] == "2 critiques: 0 accepted, 1 rejected, 0 edited, 1 without a decision"


def test_following_stops_where_a_person_has_to_go_on():
    states = ["JOB_STATE_CRITIQUING", "JOB_STATE_AWAITING_REVIEW", "JOB_STATE_TRAINING"]
    shown = list(until_review(pb.Alignment(state=state) for state in states))
    assert [job.state for job in shown] == [pb.JOB_STATE_CRITIQUING, pb.JOB_STATE_AWAITING_REVIEW]


def test_pictures_are_fetched_for_the_page_alone(trainer, tmp_path):
    assert review(trainer, "--reviewer", "Ada", "--accept", "ab", "--finish").exit_code == 0
    assert trainer.gave_pictures == [False, False]
    result = review(trainer, "--page", tmp_path / "page.html")
    assert result.exit_code == 0, result.output
    assert trainer.gave_pictures[2:] == [False, True]
    assert (tmp_path / "page.html").read_text().count("data:image/png;base64,") == len(DIGESTS)

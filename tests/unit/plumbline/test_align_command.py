"""What `plumbline align` makes of a specification file; the trainer is a stand-in that keeps the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from plumbline.common.v1 import vision_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from tests.support.commands import run_command, serve

FILE = """
task: Read.
classes: {all: {should_not_matter: the grey square}}
rules: [{class: all, concept: square, polarity: must_not, phrases: [the grey square]}]
"""
RULE = vision_pb2.TypedRule(
    class_name="all", concept="square", polarity=vision_pb2.POLARITY_MUST_NOT, noun_phrases=["the grey square"]
)


class Trainer(rpc.TrainerServiceServicer):
    """Takes every job and keeps what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[pb.SubmitAlignmentRequest] = []

    def SubmitAlignment(self, request, context):
        self.asked.append(request)
        return pb.SubmitAlignmentResponse(alignment={"job_id": "job-1"})


@pytest.fixture
def trainer() -> Iterator[Trainer]:
    made = Trainer()
    with serve(made) as made.address:
        yield made


def align(trainer: Trainer, folder: Path, *options: str) -> Result:
    path = folder / "spec.yaml"
    path.write_text(FILE)
    asked = [str(path), "--data", "set", "--model", "digits", "--no-watch", *options]
    return run_command("align", *asked, trainer=trainer.address)


@pytest.mark.parametrize(
    ("options", "mask_source"),
    [
        ([], vision_pb2.MASK_SOURCE_JUDGED),
        (["--masks", "judged"], vision_pb2.MASK_SOURCE_JUDGED),
        (["--masks", "grounded"], vision_pb2.MASK_SOURCE_GROUNDED),
        (["--masks", "agreed"], vision_pb2.MASK_SOURCE_AGREED),
    ],
)
def test_the_way_to_masks_and_the_files_rules_are_asked_for(trainer, tmp_path, options, mask_source):
    result = align(trainer, tmp_path, *options)
    assert result.exit_code == 0, result.output
    (request,) = trainer.asked
    assert request.mask_source == mask_source
    assert list(request.rules) == [RULE]
    assert request.specification.rules[0].should_not_matter == "the grey square"


@pytest.mark.parametrize(
    ("options", "loss", "selection"),
    [
        ([], pb.LOSS_RRR, pb.SELECTION_LOW_ENTROPY_PER_CLASS),
        (["--loss", "r4", "--selection", "random"], pb.LOSS_R4, pb.SELECTION_RANDOM),
        (["--loss", "mask-out", "--selection", "high-entropy"], pb.LOSS_MASK_OUT, pb.SELECTION_HIGH_ENTROPY),
        (["--selection", "low-entropy"], pb.LOSS_RRR, pb.SELECTION_LOW_ENTROPY),
    ],
)
def test_loss_and_selection_are_asked_for(trainer, tmp_path, options, loss, selection):
    result = align(trainer, tmp_path, *options)
    assert result.exit_code == 0, result.output
    (request,) = trainer.asked
    assert (request.options.loss, request.options.selection) == (loss, selection)


@pytest.mark.parametrize("option", ["--masks", "--loss", "--selection"])
def test_a_choice_that_there_is_not_is_refused_and_nothing_asked(trainer, tmp_path, option):
    assert align(trainer, tmp_path, option, "guessed").exit_code == 2
    assert trainer.asked == []


def test_criteria_priority_and_submitter_are_asked_for(trainer, tmp_path):
    options = ["--accept", "max_accuracy_drop=0", "--accept", "min_class_accuracy=0.8", "--priority", "batch"]
    result = align(trainer, tmp_path, *options, "--submitter", "ward 3")
    assert result.exit_code == 0, result.output
    (request,) = trainer.asked
    assert request.options.criteria == pb.AcceptanceCriteria(max_accuracy_drop=0.0, min_class_accuracy=0.8)
    assert request.options.criteria.HasField("max_accuracy_drop")
    assert (request.priority, request.submitter) == (pb.PRIORITY_BATCH, "ward 3")


def test_a_job_for_which_nothing_is_said_leaves_criteria_to_the_trainer_and_is_normal(trainer, tmp_path):
    align(trainer, tmp_path)
    (request,) = trainer.asked
    assert not request.options.criteria.ListFields()
    assert (request.priority, request.submitter) == (pb.PRIORITY_NORMAL, "")


@pytest.mark.parametrize("options", [[], ["--review"]])
def test_a_review_is_asked_for_only_if_it_is_wanted(trainer, tmp_path, options):
    assert align(trainer, tmp_path, *options).exit_code == 0
    assert trainer.asked[0].review is bool(options)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["accuracy=0.1"], "no criterion 'accuracy'; expected one of max_accuracy_drop, "),
        (["max_accuracy_drop"], "expected max_accuracy_drop= and a ratio"),
        (["max_accuracy_drop=a lot"], "expected max_accuracy_drop= and a ratio"),
        (["max_accuracy_drop=0.1", "max_accuracy_drop=0.2"], "max_accuracy_drop is given twice"),
    ],
)
def test_a_criterion_that_can_not_be_read_is_told_and_nothing_asked(trainer, tmp_path, given, told):
    result = align(trainer, tmp_path, *(word for text in given for word in ("--accept", text)))
    assert result.exit_code == 1
    assert told in result.output
    assert trainer.asked == []

"""What is asked for on the queue arrives as it would over gRPC, and a job says what was asked for."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from plumbline.common.v1 import vision_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.errors import InvalidInput
from services.common.runtime.folder_store import FolderStore
from services.common.vision.typed_rules import MaskSource
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import JobState, Loss, Priority
from services.trainer.domain.selection import Selection
from services.trainer.handlers.watching import JobView
from services.trainer.messages import read_states, read_submission_json, write_alignment
from services.trainer.ports import Progress
from tests.unit.trainer.made_up import RULES, make_request

RULES_JSON = [
    {"className": "all", "concept": "stripe", "polarity": "POLARITY_MUST", "nounPhrases": ["the stripe"]},
    {
        "class_name": "all",
        "concept": "block",
        "polarity": "POLARITY_MUST_NOT",
        "noun_phrases": ["the block in the corner"],
    },
]
REQUEST = {
    "model": {"name": "stripes"},
    "datasetPath": "set",
    "specification": {"task": "t", "rules": [{"className": "all", "shouldMatter": "the stripe"}]},
}


def test_the_way_to_masks_and_the_rules_come_with_the_json_form():
    submission = read_submission_json(REQUEST | {"maskSource": "MASK_SOURCE_AGREED", "rules": RULES_JSON})
    assert (submission.mask_source, submission.typed_rules) == (MaskSource.AGREED, RULES)


@pytest.mark.parametrize("content", [None, 5, "{}", [REQUEST]])
def test_what_is_no_object_on_the_queue_is_refused_as_such(content):
    with pytest.raises(InvalidInput, match="request: expected an object"):
        read_submission_json(content)


def test_a_request_that_names_no_way_to_masks_is_judged():
    submission = read_submission_json(REQUEST)
    assert (submission.mask_source, submission.typed_rules) == (MaskSource.JUDGED, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"maskSource": "agreed"}, "request"),
        ({"maskSource": 9}, "mask_source"),
        ({"rules": [{"className": "all", "polarity": "POLARITY_MUST"}]}, "rules[0].noun_phrases"),
        ({"rules": [RULES_JSON[0], {"className": "all", "nounPhrases": ["x"]}]}, "rules[1].polarity"),
        ({"rules": [RULES_JSON[0] | {"nounPhrases": ["x", " "]}]}, "rules[0].noun_phrases[1]"),
        ({"rules": [RULES_JSON[0] | {"concept": "x" * 201}]}, "rules[0].concept"),
        ({"rules": RULES_JSON * 501}, "rules"),
    ],
)
def test_a_wrong_way_or_rule_is_named(change: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as caught:
        read_submission_json(REQUEST | change)
    assert caught.value.field == field


@pytest.mark.parametrize("mask_source", MaskSource)
def test_a_job_says_its_way_to_masks_and_its_rules(tmp_path, mask_source: MaskSource):
    job = JobRecord(FolderStore(tmp_path)).file(make_request(mask_source=mask_source, typed_rules=RULES))
    told = write_alignment(JobView(job, None, None, {}))
    assert vision_pb2.MaskSource.Name(told.mask_source) == f"MASK_SOURCE_{mask_source}"
    assert [(rule.class_name, rule.concept, list(rule.noun_phrases)) for rule in told.rules] == [
        ("all", "stripe", ["the stripe"]),
        ("all", "block", ["the block in the corner"]),
    ]


@pytest.mark.parametrize("loss", Loss)
@pytest.mark.parametrize("selection", Selection)
def test_every_loss_and_selection_comes_with_the_json_form(loss: Loss, selection: Selection):
    options = {"loss": f"LOSS_{loss}", "selection": f"SELECTION_{selection}"}
    submission = read_submission_json(REQUEST | {"options": options})
    assert (submission.loss, submission.selection) == (loss, selection)


@pytest.mark.parametrize("options", [{}, {"loss": "LOSS_UNSPECIFIED", "selection": 0}])
def test_a_request_that_names_no_loss_and_no_selection_takes_the_defaults(options: dict[str, Any]):
    submission = read_submission_json(REQUEST | {"options": options})
    assert (submission.loss, submission.selection) == (Loss.RRR, Selection.LOW_ENTROPY_PER_CLASS)


@pytest.mark.parametrize("field", ["loss", "selection"])
@pytest.mark.parametrize("number", [9, -1])
def test_a_loss_or_selection_that_there_is_not_is_refused_at_its_field(field: str, number: int):
    with pytest.raises(InvalidInput, match=r"expected one of (RRR, R4, |LOW_ENTROPY_PER_CLASS, )") as caught:
        read_submission_json(REQUEST | {"options": {field: number}})
    assert caught.value.field == f"options.{field}"


def test_a_job_says_how_it_is_done_with_the_defaults_filled_in(tmp_path):
    request = make_request(images_per_class=40, epochs=2, seed=7, loss=Loss.MASK_OUT, selection=Selection.RANDOM)
    job = JobRecord(FolderStore(tmp_path)).file(request)
    assert write_alignment(JobView(job, None, None, {})).options == pb.AlignmentOptions(
        images_per_class=40,
        epochs=2,
        seed=7,
        loss="LOSS_MASK_OUT",
        selection="SELECTION_RANDOM",
        criteria={
            "max_accuracy_drop": 0.05,
            "max_flipped_loss": 0.1,
            "max_class_accuracy_drop": 0.2,
            "max_flip_rate_rise": 0.0,
        },
    )


def test_the_contract_and_the_gate_have_the_same_criteria():
    assert set(pb.AcceptanceCriteria.DESCRIPTOR.fields_by_name) == {field.name for field in fields(Criteria)}


def test_criteria_come_with_the_json_form_and_unset_ones_are_the_defaults():
    asked = {"criteria": {"maxAccuracyDrop": 0, "min_class_accuracy": 0.8}}
    submission = read_submission_json(REQUEST | {"options": asked})
    assert submission.criteria == Criteria(max_accuracy_drop=0.0, min_class_accuracy=0.8)
    assert read_submission_json(REQUEST).criteria == Criteria()


@pytest.mark.parametrize("priority", Priority)
def test_priority_and_submitter_come_with_the_json_form_and_the_job_says_them(tmp_path, priority: Priority):
    submission = read_submission_json(REQUEST | {"priority": f"PRIORITY_{priority}", "submitter": "ward 3"})
    assert (submission.priority, submission.submitter) == (priority, "ward 3")
    request = make_request(priority=priority, submitter="ward 3", retry_of="20261124-161100-000000-0123abcd")
    told = write_alignment(JobView(JobRecord(FolderStore(tmp_path)).file(request), None, None, {}))
    assert (pb.Priority.Name(told.priority), told.submitter) == (f"PRIORITY_{priority}", "ward 3")
    assert told.retry_of == "20261124-161100-000000-0123abcd"


def test_a_priority_that_there_is_not_is_refused_at_its_field():
    with pytest.raises(InvalidInput, match="expected one of NORMAL, URGENT, BATCH") as caught:
        read_submission_json(REQUEST | {"priority": 9})
    assert caught.value.field == "priority"
    assert read_submission_json(REQUEST).priority is Priority.NORMAL


def test_every_state_can_be_filtered_by():
    assert read_states([pb.JobState.Value(f"JOB_STATE_{state}") for state in JobState]) == list(JobState)


@pytest.mark.parametrize("number", [0, 99, -1])
def test_a_state_that_there_is_not_is_refused_at_its_place(number: int):
    with pytest.raises(InvalidInput, match="expected one of QUEUED") as caught:
        read_states([pb.JOB_STATE_FAILED, number])
    assert caught.value.field == "states[1]"


def test_the_seconds_left_are_told_when_they_are_known(tmp_path):
    job = JobRecord(FolderStore(tmp_path)).file(make_request())
    known = write_alignment(JobView(job, Progress(1, 4, "image", eta_s=0.0), None, {})).progress
    unknown = write_alignment(JobView(job, Progress(1, 4, "image"), None, {})).progress
    assert (known.HasField("eta_s"), unknown.HasField("eta_s"), unknown.HasField("loss")) == (True, False, False)


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_review_comes_with_the_json_form_and_a_job_says_whether_it_has_one(tmp_path, is_asked: bool):
    submission = read_submission_json(REQUEST | {"review": is_asked})
    assert submission.review is is_asked
    job = JobRecord(FolderStore(tmp_path)).file(make_request(review=is_asked))
    assert write_alignment(JobView(job, None, None, {})).review is is_asked


def test_a_review_makes_another_job_of_the_same_key_and_none_leaves_old_keys_as_they_were():
    plain, reviewed = (read_submission_json(REQUEST | {"review": is_asked}) for is_asked in (False, True))
    assert plain.digest != reviewed.digest
    assert plain.digest == read_submission_json(REQUEST).digest

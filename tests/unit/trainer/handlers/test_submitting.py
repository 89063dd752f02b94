"""What a job may ask for, said before anything is filed. Data set and record are real; the explainer tells one model of two versions."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound, Overloaded, Unavailable
from services.common.runtime.folder_store import FolderStore
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.typed_rules import MaskSource, Polarity, TypedRule
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.job_record import JobRecord, bundle_path
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import JobState, Loss, Priority
from services.trainer.domain.selection import Selection
from services.trainer.handlers.submitting import Submission, Submitting
from services.trainer.ports import ModelAnswer
from tests.unit.trainer.fakes import ListQueue
from tests.unit.trainer.made_up import MODEL_DIGEST, RULES, SPECIFICATION

MODEL = ModelAnswer("stripes", 3, MODEL_DIGEST, ("0", "1"), is_champion=True)
SEVERAL = ModelAnswer("findings", 1, MODEL_DIGEST, ("0", "1"), is_champion=True, has_several_labels=True)
FORMER = ModelAnswer("stripes", 2, MODEL_DIGEST, ("0", "1"))
GOOD = Submission("", "stripes", 0, "set", SPECIFICATION)


class _OneModel:
    """The `find_model` of an explainer that serves a champion and its forerunner."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.champion = MODEL

    def find_model(self, name: str, version: int) -> ModelAnswer:
        if self.failure:
            raise self.failure
        if (name, version) == (FORMER.name, FORMER.version):
            return FORMER
        if name == SEVERAL.name:
            return SEVERAL
        if name != MODEL.name or version not in (0, MODEL.version):
            raise NotFound(f"model.version: '{name}' has no version {version}")
        return self.champion


class _Stage:
    def __init__(self, root: Path) -> None:
        self.root = root
        store = FolderStore(root / "store")
        store.create(f"{bundle_path(MODEL.name, MODEL.digest)}/config.json", b"{}")
        self.record, self.explainer, self.queue = JobRecord(store), _OneModel(), ListQueue()
        self.submitting = Submitting(self.record, self.explainer, DatasetFolder(root / "data"), self.queue)
        self.write(["0"] * 6 + ["1"] * 6)

    def write(self, labels: list[str]) -> None:
        folder = self.root / "data" / "set"
        folder.mkdir(parents=True, exist_ok=True)
        rows = [f"{number}.png,{label}\n" for number, label in enumerate(labels)]
        (folder / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
        for number in range(len(labels)):
            (folder / f"{number}.png").write_bytes(str(number).encode())


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


def test_submit_files_the_job_with_the_model_resolved_and_defaults_filled_and_sends_it(stage: _Stage):
    job = stage.submitting.submit(GOOD)
    assert job.state == JobState.QUEUED
    request = job.request
    assert (request.model_version, request.model_digest, request.labels) == (3, MODEL_DIGEST, ["0", "1"])
    assert (request.images_per_class, request.epochs, request.seed) == (40, 8, 0)
    assert stage.queue.sent == [("critique", job.job_id)]


def test_submit_takes_the_champion_by_its_version_too(stage: _Stage):
    job = stage.submitting.submit(dataclasses.replace(GOOD, model_version=MODEL.version))
    assert job.request.model_version == MODEL.version


def _must_not(class_name: str, count: int = 1) -> TypedRule:
    return TypedRule(class_name, "thing", Polarity.MUST_NOT, tuple(f"thing {number}" for number in range(count)))


def _rules(*rules: ClassRule) -> ClassSpecification:
    return ClassSpecification("t", rules)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"images_per_class": -1}, "options.images_per_class"),
        ({"images_per_class": 10_001}, "options.images_per_class"),
        ({"epochs": 201}, "options.epochs"),
        ({"seed": -1}, "options.seed"),
        ({"idempotency_key": "k" * 257}, "idempotency_key"),
        ({"model_name": ""}, "model.name"),
        ({"model_name": SEVERAL.name}, "model.name"),
        ({"model_version": -1}, "model.version"),
        ({"model_version": FORMER.version}, "model.version"),
        ({"model_digest": f"sha256:{'9' * 64}"}, "model.digest"),
        ({"dataset_path": "../set"}, "dataset_path"),
        ({"dataset_path": "other"}, "dataset_path"),
        ({"specification": _rules(ClassRule("all", "x"), ClassRule("cat", "x"))}, "specification.rules[1].class_name"),
        ({"specification": _rules(ClassRule("0", "x"))}, "specification.rules"),
        ({"mask_source": MaskSource.GROUNDED}, "rules"),
        ({"mask_source": MaskSource.AGREED}, "rules"),
        ({"mask_source": MaskSource.AGREED, "typed_rules": (_must_not("1"),)}, "rules"),
        ({"mask_source": MaskSource.GROUNDED, "typed_rules": (_must_not("all", count=17),)}, "rules"),
        ({"mask_source": MaskSource.GROUNDED, "typed_rules": (*RULES, _must_not("cat"))}, "rules[2].class_name"),
        ({"typed_rules": (_must_not("cat"),)}, "rules[0].class_name"),
        ({"criteria": Criteria(max_accuracy_drop=1.01)}, "options.criteria.max_accuracy_drop"),
        ({"criteria": Criteria(min_class_accuracy=-0.1)}, "options.criteria.min_class_accuracy"),
        ({"criteria": Criteria(min_reliance_drop=math.nan)}, "options.criteria.min_reliance_drop"),
        ({"submitter": "s" * 257}, "submitter"),
    ],
)
def test_submit_names_the_field_at_fault_and_files_nothing(stage: _Stage, change: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as caught:
        stage.submitting.submit(dataclasses.replace(GOOD, **change))
    assert caught.value.field == field
    assert (stage.record.job_ids(), stage.queue.sent) == ([], [])


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["0"] * 6 + ["7"], "'6.png' is labelled '7'"),
        (["0"] * 6 + ["1"] * 4, "class '1' has 4 pictures"),
        (["0"] * 9, "two classes"),
    ],
)
def test_submit_refuses_a_data_set_that_the_model_or_the_split_can_not_use(stage: _Stage, labels: list, words: str):
    stage.write(labels)
    with pytest.raises(InvalidInput, match="dataset_path") as caught:
        stage.submitting.submit(GOOD)
    assert words in caught.value.message


def test_submit_refuses_an_unknown_model(stage: _Stage):
    with pytest.raises(NotFound, match="no version 9"):
        stage.submitting.submit(dataclasses.replace(GOOD, model_version=9))


def test_submit_refuses_a_model_whose_bundle_can_not_be_fine_tuned(stage: _Stage):
    (stage.root / "store" / bundle_path(MODEL.name, MODEL.digest) / "config.json").unlink()
    (stage.root / "store" / bundle_path(MODEL.name, MODEL.digest)).rmdir()
    with pytest.raises(InvalidInput, match="not in the artifact store"):
        stage.submitting.submit(GOOD)


def test_the_same_key_returns_its_job_whatever_became_of_model_and_data(stage: _Stage):
    keyed = dataclasses.replace(GOOD, idempotency_key="k")
    first = stage.submitting.submit(keyed)
    stage.explainer.failure = Unavailable("explainer is away")
    stage.write(["0"])
    assert stage.submitting.submit(keyed).job_id == first.job_id


def test_the_same_key_with_other_content_is_refused(stage: _Stage):
    keyed = dataclasses.replace(GOOD, idempotency_key="k")
    stage.submitting.submit(keyed)
    with pytest.raises(AlreadyExists, match="other content"):
        stage.submitting.submit(dataclasses.replace(keyed, seed=1))


def test_the_same_key_sends_a_job_again_that_the_broker_did_not_take(stage: _Stage):
    keyed = dataclasses.replace(GOOD, idempotency_key="k")
    stage.queue.failure = Unavailable("the broker can't be reached")
    with pytest.raises(Unavailable):
        stage.submitting.submit(keyed)
    stage.queue.failure = None
    job = stage.submitting.submit(keyed)
    assert stage.queue.sent == [("critique", job.job_id)]
    assert stage.record.job_ids() == [job.job_id]


def test_without_a_key_the_same_content_is_a_new_job(stage: _Stage):
    assert stage.submitting.submit(GOOD).job_id != stage.submitting.submit(GOOD).job_id


@pytest.mark.parametrize("mask_source", MaskSource)
def test_the_way_to_masks_and_the_rules_are_filed_with_the_job(stage: _Stage, mask_source: MaskSource):
    request = stage.submitting.submit(dataclasses.replace(GOOD, mask_source=mask_source, typed_rules=RULES)).request
    assert (request.mask_source, request.typed_rules) == (mask_source, RULES)


def test_rules_need_only_speak_of_the_classes_that_the_data_set_has(stage: _Stage):
    stage.explainer.champion = dataclasses.replace(MODEL, labels=("0", "1", "2"))
    rules = (_must_not("0"), _must_not("1"))
    assert stage.submitting.submit(dataclasses.replace(GOOD, mask_source=MaskSource.AGREED, typed_rules=rules))


def test_loss_and_selection_are_filed_with_the_job(stage: _Stage):
    asked = dataclasses.replace(GOOD, loss=Loss.MASK_OUT, selection=Selection.RANDOM)
    request = stage.submitting.submit(asked).request
    assert (request.loss, request.selection) == (Loss.MASK_OUT, Selection.RANDOM)


@pytest.mark.parametrize(
    "change",
    [
        {"mask_source": MaskSource.AGREED},
        {"typed_rules": RULES[:1]},
        {"loss": Loss.R4},
        {"selection": Selection.LOW_ENTROPY},
        {"criteria": Criteria(min_class_accuracy=0.0)},
        {"criteria": Criteria(max_accuracy_drop=0.03)},
        {"priority": Priority.BATCH},
        {"submitter": "ward 3"},
        {"retry_of": "20261124-161100-000000-0123abcd"},
    ],
)
def test_the_same_key_with_another_choice_or_other_rules_is_refused(stage: _Stage, change: dict[str, Any]):
    keyed = dataclasses.replace(GOOD, idempotency_key="k", typed_rules=RULES)
    stage.submitting.submit(keyed)
    with pytest.raises(AlreadyExists, match="other content"):
        stage.submitting.submit(dataclasses.replace(keyed, **change))


def test_criteria_priority_and_submitter_are_filed_with_the_job(stage: _Stage):
    asked = {"criteria": Criteria(min_reliance_drop=0.1), "priority": Priority.URGENT, "submitter": "ward 3"}
    request = stage.submitting.submit(dataclasses.replace(GOOD, **asked)).request
    filed = stage.record.load(stage.record.job_ids()[0]).request
    assert request == filed
    assert (filed.criteria, filed.priority, filed.submitter) == tuple(asked.values())


def test_criteria_that_are_written_out_are_the_same_content_as_the_defaults_they_stand_for():
    assert dataclasses.replace(GOOD, criteria=Criteria(max_accuracy_drop=0.05)).digest == GOOD.digest


def _stage_with_quota(root: Path, most: int) -> _Stage:
    stage = _Stage(root)
    stage.submitting = Submitting(stage.record, stage.explainer, DatasetFolder(root / "data"), stage.queue, most)
    return stage


def _of(submitter: str, key: str = "") -> Submission:
    return dataclasses.replace(GOOD, submitter=submitter, idempotency_key=key)


@pytest.mark.parametrize("submitter", ["ward 3", ""])
def test_a_submitter_with_as_many_open_jobs_as_allowed_is_told_to_come_back(tmp_path: Path, submitter: str):
    stage = _stage_with_quota(tmp_path, 2)
    for _ in range(2):
        stage.submitting.submit(_of(submitter))
    with pytest.raises(Overloaded, match="2 open jobs of at most 2") as caught:
        stage.submitting.submit(_of(submitter))
    assert caught.value.retry_after_s == 60
    assert len(stage.record.job_ids()) == len(stage.queue.sent) == 2


def test_another_submitter_is_not_held_up(tmp_path: Path):
    stage = _stage_with_quota(tmp_path, 1)
    stage.submitting.submit(_of("ward 3"))
    assert stage.submitting.submit(_of("ward 4")).state == JobState.QUEUED


@pytest.mark.parametrize("end", [JobState.CANCELLED, JobState.FAILED])
def test_a_job_that_ended_makes_room_for_another(tmp_path: Path, end: JobState):
    stage = _stage_with_quota(tmp_path, 1)
    first = stage.submitting.submit(_of("ward 3"))
    with pytest.raises(Overloaded):
        stage.submitting.submit(_of("ward 3"))
    stage.record.advance(first, end)
    assert stage.submitting.submit(_of("ward 3")).job_id != first.job_id


def test_a_key_finds_its_job_when_the_quota_is_full(tmp_path: Path):
    stage = _stage_with_quota(tmp_path, 1)
    first = stage.submitting.submit(_of("ward 3", key="k"))
    assert stage.submitting.submit(_of("ward 3", key="k")).job_id == first.job_id


def test_without_a_quota_nobody_is_held_up(stage: _Stage):
    for _ in range(5):
        stage.submitting.submit(_of("ward 3"))
    assert len(stage.queue.sent) == 5


def test_a_key_of_before_there_was_a_choice_still_finds_its_job():
    assert GOOD.digest == "sha256:b515fabaf3e0e525136efc3e363266ed74b149ed61c152125cd6e0b7fd65b13b"

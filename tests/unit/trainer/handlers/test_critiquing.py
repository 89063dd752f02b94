"""The critiquing step over a real record and data set: what is asked, what is kept, what a second run redoes."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.common.runtime.errors import Conflict, InvalidInput, Unavailable, WrongState
from services.common.runtime.folder_store import FolderStore
from services.common.vision.class_specification import ClassSpecification
from services.common.vision.explanation import Segment
from services.common.vision.typed_rules import MaskSource, TypedRule
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.domain.selection import Selection
from services.trainer.handlers.completing import ASKED, EXPECTED, Completing
from services.trainer.handlers.critiquing import Critiquing
from services.trainer.ports import ExplainedSample, ModelAnswer, Sample, WorkerStopping
from tests.unit.trainer.fakes import LastProgress, ListQueue, LocalLease
from tests.unit.trainer.made_up import RULES, make_critique, make_request

PER_CLASS = 60


class _Explainer:
    """Sure of odd pictures, without evidence on those whose name ends in 7."""

    def __init__(self) -> None:
        self.predicted: list[str] = []

    def predict(self, model: ModelAnswer, samples: Sequence[Sample]) -> np.ndarray:
        self.predicted += [sample.file_name for sample in samples]
        sure = [int(sample.file_name[:4]) % 2 for sample in samples]
        return np.array([(0.98, 0.01, 0.01) if is_sure else (0.4, 0.3, 0.3) for is_sure in sure])

    def explain(self, model: ModelAnswer, samples: Sequence[Sample]) -> list[ExplainedSample]:
        segment = Segment(1, 1.0, np.ones((8, 8), dtype=bool))
        return [
            ExplainedSample(sample, "0", () if sample.file_name[3] == "7" else (segment,), sample.path.read_bytes())
            for sample in samples
        ]


class _Lvlm:
    """Notes what it is asked; raises from the call numbered `fails_at` on."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.ways: list[tuple[MaskSource, Sequence[TypedRule]]] = []
        self.fails_at = 99
        self.on_asked: Callable[[], None] = lambda: None

    def translate(
        self,
        model: ModelAnswer,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedSample],
        job_id: str,
        mask_source: MaskSource,
        typed_rules: Sequence[TypedRule],
    ) -> None:
        if len(self.asked) >= self.fails_at:
            raise Unavailable("lvlm is away")
        self.asked.append([picture.sample.file_name for picture in pictures])
        self.ways.append((mask_source, typed_rules))
        self.on_asked()


class _Stage:
    def __init__(self, root: Path) -> None:
        self.folder = root / "data" / "stripes"
        self.folder.mkdir(parents=True)
        names = [f"{number:04d}.png" for number in range(2 * PER_CLASS)]
        for number, name in enumerate(names):
            file = io.BytesIO()
            Image.fromarray(np.full((8, 8), number, dtype=np.uint8)).save(file, "PNG")
            (self.folder / name).write_bytes(file.getvalue())
        rows = "".join(f"{name},{number // PER_CLASS}\n" for number, name in enumerate(names))
        (self.folder / "metadata.csv").write_text(f"file_name,label\n{rows}")
        self.record = JobRecord(FolderStore(root / "store"))
        self.explainer, self.lvlm, self.queue, self.lease = _Explainer(), _Lvlm(), ListQueue(), LocalLease()
        self.board, self.stopping = LastProgress(), threading.Event()
        self.root = root
        self.critiquing = self.make_critiquing(patience_s=0.0)
        self.job_id = self.record.file(make_request(images_per_class=10, labels=["0", "1", "2"])).job_id

    def make_critiquing(self, patience_s: float) -> Critiquing:
        return Critiquing(
            self.record,
            self.explainer,
            self.lvlm,
            DatasetFolder(self.root / "data"),
            Completing(self.record, self.queue),
            self.board,
            self.lease,
            self.stopping,
            patience_s,
        )

    def expected(self) -> dict:
        return self.record.read(self.job_id, EXPECTED)

    def answer(self, digests: Sequence[str]) -> None:
        for digest in digests:
            entry = self.expected()[digest]
            name, label = entry["file_name"], entry["label"]
            self.record.add_critique(self.job_id, make_critique(digest[7:], label, name))


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


def test_critique_chooses_sure_train_pictures_and_random_validation_pictures_of_each_class(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    parts = {(part, label): [] for part in ("train", "held_out") for label in ("0", "1")}
    for entry in stage.expected().values():
        parts[entry["part"], entry["label"]].append(entry["file_name"])
    assert [len(names) for names in parts.values()] == [10, 10, 12, 12]
    train = parts["train", "0"] + parts["train", "1"]
    assert all(int(name[:4]) % 2 for name in train)
    assert set(train) <= set(stage.explainer.predicted)
    assert not (set(parts["held_out", "0"]) & set(stage.explainer.predicted))


def _chosen_to_train(stage: _Stage, selection: Selection, seed: int) -> set[str]:
    request = make_request(images_per_class=10, labels=["0", "1", "2"], selection=selection, seed=seed)
    stage.job_id = stage.record.file(request).job_id
    stage.critiquing.critique(stage.job_id)
    return {entry["file_name"] for entry in stage.expected().values() if entry["part"] == "train"}


@pytest.mark.parametrize(
    ("selection", "is_sure"),
    [(Selection.LOW_ENTROPY_PER_CLASS, {1}), (Selection.LOW_ENTROPY, {1}), (Selection.HIGH_ENTROPY, {0})],
)
def test_critique_chooses_by_the_jobs_selection(stage: _Stage, selection: Selection, is_sure: set[int]):
    chosen = _chosen_to_train(stage, selection, seed=0)
    assert len(chosen) == 20
    assert {int(name[:4]) % 2 for name in chosen} == is_sure


def test_random_pictures_are_sure_and_unsure_ones_and_others_with_another_seed(stage: _Stage):
    first, again, other = (_chosen_to_train(stage, Selection.RANDOM, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert {int(name[:4]) % 2 for name in first} == {0, 1}


def test_critique_asks_in_batches_and_passes_over_pictures_without_evidence(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    asked = [name for batch in stage.lvlm.asked for name in batch]
    bare = [entry["file_name"] for entry in stage.expected().values() if entry["file_name"][3] == "7"]
    assert bare
    assert len(asked) == len(set(asked)) == len(stage.expected()) - len(bare)
    assert max(map(len, stage.lvlm.asked)) <= 32
    assert len(stage.record.read(stage.job_id, ASKED)) == len(asked)
    told = stage.board.look(stage.job_id)
    assert (told.done, told.total, told.eta_s) == (44, 44, 0.0)


def test_critique_asks_in_the_jobs_way_with_its_rules(stage: _Stage):
    stage.job_id = stage.record.file(make_request(mask_source=MaskSource.GROUNDED, typed_rules=RULES)).job_id
    stage.critiquing.critique(stage.job_id)
    assert stage.lvlm.ways
    assert set(stage.lvlm.ways) == {(MaskSource.GROUNDED, RULES)}


def test_every_chosen_picture_is_kept_with_its_size_before_anything_is_asked(stage: _Stage):
    stage.lvlm.fails_at = 0
    with pytest.raises(Unavailable):
        stage.critiquing.critique(stage.job_id)
    for digest, entry in stage.expected().items():
        assert entry["size"] == [8, 8]
        assert stage.record.picture(stage.job_id, digest) == (stage.folder / entry["file_name"]).read_bytes()


def test_a_second_run_asks_only_for_what_is_missing(stage: _Stage):
    stage.lvlm.fails_at = 1
    with pytest.raises(Unavailable):
        stage.critiquing.critique(stage.job_id)
    (first,) = stage.lvlm.asked
    stage.answer([digest for digest, entry in stage.expected().items() if entry["file_name"] in first])
    stage.lvlm.fails_at = 99
    stage.critiquing.critique(stage.job_id)
    assert not set(first) & {name for batch in stage.lvlm.asked[1:] for name in batch}
    stage.answer(stage.record.read(stage.job_id, ASKED))
    assert Completing(stage.record, stage.queue).is_complete(stage.job_id)


def test_a_job_whose_critiques_came_before_the_asking_ended_goes_to_training(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    asked = stage.record.read(stage.job_id, ASKED)
    (stage.folder.parents[1] / "store" / "jobs" / stage.job_id / ASKED).unlink()
    stage.answer(asked)
    stage.critiquing.critique(stage.job_id)
    assert stage.queue.sent == [("train", stage.job_id)]


def _asked_again(stage: _Stage) -> set[str]:
    """The names that another run asks for."""
    before = len(stage.lvlm.asked)
    stage.critiquing.critique(stage.job_id)
    return {name for batch in stage.lvlm.asked[before:] for name in batch}


def test_critiques_that_are_on_their_way_are_not_asked_for_again_and_lost_ones_are(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    first, *rest = stage.record.read(stage.job_id, ASKED)
    stage.answer(rest)
    before = len(stage.lvlm.asked)
    stage.make_critiquing(patience_s=300.0).critique(stage.job_id)
    assert len(stage.lvlm.asked) == before
    assert stage.expected()[first]["file_name"] in _asked_again(stage)


def test_a_job_whose_critiques_never_come_ends_after_three_rounds_that_brought_none(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    missing, *rest = stage.record.read(stage.job_id, ASKED)
    stage.answer(rest)
    for _ in range(3):
        assert stage.expected()[missing]["file_name"] in _asked_again(stage)
    with pytest.raises(WrongState, match=r"asked 3 times, and 1 of \d+ critiques never came"):
        stage.critiquing.critique(stage.job_id)


def test_a_job_that_is_complete_is_not_asked_for_however_often_its_message_comes(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    stage.answer(stage.record.read(stage.job_id, ASKED))
    assert [_asked_again(stage) for _ in range(5)] == [set()] * 5
    assert stage.queue.sent == [("train", stage.job_id)]


def test_as_long_as_some_come_the_rest_are_asked_for_again(stage: _Stage):
    stage.critiquing.critique(stage.job_id)
    for digest in stage.record.read(stage.job_id, ASKED)[:8]:
        stage.answer([digest])
        assert _asked_again(stage)


def test_a_cancelled_job_is_not_asked_for(stage: _Stage):
    stage.record.advance(stage.record.load(stage.job_id), JobState.CANCELLED)
    stage.critiquing.critique(stage.job_id)
    assert (stage.explainer.predicted, stage.lvlm.asked) == ([], [])


def test_a_worker_that_is_told_to_go_asks_for_no_more_and_another_asks_for_the_rest(stage: _Stage):
    stage.lvlm.on_asked = stage.stopping.set
    with pytest.raises(WorkerStopping):
        stage.critiquing.critique(stage.job_id)
    (first,) = stage.lvlm.asked
    assert stage.record.read(stage.job_id, ASKED) is None
    stage.answer([digest for digest, entry in stage.expected().items() if entry["file_name"] in first])
    stage.stopping.clear()
    stage.lvlm.on_asked = lambda: None
    stage.critiquing.critique(stage.job_id)
    assert not set(first) & {name for batch in stage.lvlm.asked[1:] for name in batch}


def test_a_second_worker_leaves_the_job_alone(stage: _Stage):
    with stage.lease.hold(stage.job_id, "critique"), pytest.raises(Conflict):
        stage.critiquing.critique(stage.job_id)
    assert stage.record.load(stage.job_id).state == JobState.QUEUED


def test_a_file_that_is_no_picture_ends_the_step_with_its_name(stage: _Stage):
    for path in stage.folder.glob("*.png"):
        path.write_bytes(path.name.encode())
    with pytest.raises(InvalidInput, match=r"dataset_path: '\d{4}\.png': not a picture"):
        stage.critiquing.critique(stage.job_id)


def test_a_picture_that_changed_since_it_was_chosen_ends_the_step_with_its_name(stage: _Stage):
    stage.lvlm.fails_at = 0
    with pytest.raises(Unavailable):
        stage.critiquing.critique(stage.job_id)
    name = next(iter(stage.expected().values()))["file_name"]
    (stage.folder / name).write_bytes(b"other")
    with pytest.raises(InvalidInput, match=f"'{name}' changed"):
        stage.critiquing.critique(stage.job_id)


@pytest.mark.parametrize("change", ["a picture more", "another label", "another order", "a row less"])
def test_a_data_set_that_changed_since_pictures_were_chosen_ends_the_step(stage: _Stage, change: str):
    stage.lvlm.fails_at = 0
    with pytest.raises(Unavailable):
        stage.critiquing.critique(stage.job_id)
    table = stage.folder / "metadata.csv"
    header, *rows = table.read_text().splitlines()
    chosen = {entry["file_name"] for entry in stage.expected().values()}
    place = next(number for number, row in enumerate(rows) if row.split(",")[0] not in chosen)
    if change == "a picture more":
        (stage.folder / "new.png").write_bytes(b"new")
        rows.append("new.png,0")
    elif change == "another label":
        rows[place] = rows[place][:-1] + str(1 - int(rows[place][-1]))
    elif change == "another order":
        rows.reverse()
    else:
        del rows[place]
    table.write_text("\n".join([header, *rows]) + "\n")
    stage.lvlm.fails_at = 99
    with pytest.raises(InvalidInput, match="the data set changed"):
        stage.critiquing.critique(stage.job_id)


def test_a_file_that_stands_twice_in_the_data_set_is_asked_for_under_the_name_it_was_chosen_by(stage: _Stage):
    with (stage.folder / "metadata.csv").open("a") as table:
        for path in sorted(stage.folder.glob("*1.png")):
            copy = f"0000-{path.name}"  # the explainer is not sure of it, so the other one is chosen
            (stage.folder / copy).write_bytes(path.read_bytes())
            table.write(f"{copy},1\n")
    stage.critiquing.critique(stage.job_id)
    asked = {name for batch in stage.lvlm.asked for name in batch}
    assert any(name.endswith("1.png") for name in asked)
    assert asked <= {entry["file_name"] for entry in stage.expected().values()}


def test_the_same_file_is_not_both_trained_on_and_held_out(stage: _Stage):
    one = (stage.folder / "0001.png").read_bytes()
    for path in stage.folder.glob("00[0-5]?.png"):
        path.write_bytes(one)  # every picture of class 0 is the same file
    stage.critiquing.critique(stage.job_id)
    parts = [entry["part"] for entry in stage.expected().values() if entry["label"] == "0"]
    assert parts == ["train"]

"""Batches as they come: good ones count once, bad parts are set aside, and training is sent exactly once."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.common.vision.critique import MAX_BATCH_CRITIQUES, Critique
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.handlers.completing import ASKED, EXPECTED, Completing
from services.trainer.handlers.consuming import Consuming
from tests.unit.trainer.fakes import ListQueue, LocalLease
from tests.unit.trainer.made_up import SIZE, make_critique, make_request

DIGESTS = [f"{number:064x}" for number in range(1, 5)]


class _Stage:
    """A job that waits for four critiques."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record, self.queue = JobRecord(FolderStore(root)), ListQueue()
        self.consuming = Consuming(self.record, Completing(self.record, self.queue), LocalLease())
        job = self.record.file(make_request())
        self.job_id = job.job_id
        self.record.advance(job, JobState.CRITIQUING)
        entry = {"file_name": "a.png", "label": "0", "part": "train", "size": list(SIZE)}
        self.record.write_once(self.job_id, EXPECTED, {f"sha256:{digest}": entry for digest in DIGESTS})
        self.record.write_once(self.job_id, ASKED, [f"sha256:{digest}" for digest in DIGESTS])

    def batch(self, *critiques: Critique | dict[str, Any], **changes: Any) -> dict[str, Any]:
        content = [item if isinstance(item, dict) else item.model_dump(mode="json") for item in critiques]
        return {"schema_version": 1, "job_id": self.job_id, "critiques": content} | changes

    def all_four(self) -> list[Critique]:
        return [make_critique(digest=digest) for digest in DIGESTS]

    def reasons(self) -> list[str]:
        folders = [self.root / "jobs" / self.job_id / "set_aside", self.root / "unclaimed"]
        return [json.loads(path.read_text())["reason"] for folder in folders for path in sorted(folder.glob("*.json"))]


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


def test_training_is_sent_when_the_last_critique_is_in_and_not_before(stage: _Stage):
    first, *rest = stage.all_four()
    stage.consuming.consume(stage.batch(*rest))
    assert stage.queue.sent == []
    stage.consuming.consume(stage.batch(first))
    assert stage.queue.sent == [("train", stage.job_id)]


def test_training_is_sent_once_when_every_batch_comes_three_times_at_once(stage: _Stage):
    batches = [stage.batch(critique) for critique in stage.all_four()] * 3
    threads = [threading.Thread(target=stage.consuming.consume, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stage.queue.sent == [("train", stage.job_id)]
    assert stage.reasons() == []


def test_training_is_not_sent_while_pictures_are_still_being_asked_for(tmp_path: Path):
    stage = _Stage(tmp_path)
    (tmp_path / "jobs" / stage.job_id / ASKED).unlink()
    stage.consuming.consume(stage.batch(*stage.all_four()))
    assert stage.queue.sent == []


def _set(critique: Critique, path: str, value: Any) -> dict[str, Any]:
    content = json.loads(critique.model_dump_json())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    target = content
    for part in parents:
        target = target[part]
    target[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("image_digest", f"sha256:{'e' * 64}", "did not ask for this picture"),
        ("image_digest", "e" * 64, "image_digest"),
        ("image_id", "b.png", "image_id: expected 'a.png'"),
        ("model_digest", f"sha256:{'e' * 64}", "model_digest: expected"),
        ("true_label", "1", "true_label: expected '0'"),
        ("verdicts.0.verdict", "PROBABLY", "verdicts.0.verdict"),
        ("verdicts.0.share", 1.5, "verdicts.0.share"),
        ("verdicts.0.share", float("nan"), "verdicts.0.share"),
        ("verdicts.1.segment_index", 0, "verdicts.1.segment_index"),
        ("verdicts.1.segment_index", 2**31, "verdicts.1.segment_index"),
        ("verdicts.1.segment_index", 1, "segment 1 is judged twice"),
        ("verdicts.0.mask.size", [4, 16], "verdicts[0].mask.size: expected [8, 8]"),
        ("verdicts.0.mask", {"counts": "PPPPP1", "size": [100_000, 100_000]}, "verdicts[0].mask.size"),
        ("verdicts.0.mask.counts", "~~~", "verdicts[0].mask.counts"),
        ("verdicts.0.mask.counts", "", "verdicts[0].mask.counts"),
        ("failure", "unreadable", "verdicts[0].verdict: expected FAILED"),
        ("patient", "Jane", "patient"),
        ("reasons", None, "reasons"),
        ("reasons", "\ud800", "reasons"),
    ],
)
def test_a_bad_critique_is_set_aside_with_its_reason_and_the_rest_counts(
    stage: _Stage, path: str, value: Any, words: str
):
    bad, *good = stage.all_four()
    stage.consuming.consume(stage.batch(_set(bad, path, value), *good))
    assert stage.record.critiqued(stage.job_id) == {critique.image_digest for critique in good}
    (reason,) = stage.reasons()
    assert words in reason


@pytest.mark.parametrize("content", [None, 3, "x", [], {}])
def test_a_critique_that_is_no_critique_is_set_aside(stage: _Stage, content: Any):
    stage.consuming.consume(stage.batch() | {"critiques": [content, make_critique(digest=DIGESTS[0]).model_dump()]})
    assert len(stage.record.critiqued(stage.job_id)) == len(stage.reasons()) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"critiques": []}, "critiques: expected"),
        ({"critiques": {"a": 1}}, "critiques: expected"),
        ({"critiques": [{}] * (MAX_BATCH_CRITIQUES + 1)}, "1 to 32"),
        ({"extra": 1}, "unknown field extra"),
        ({"critiques": ["x" * 70_000]}, "bytes; at most 65536"),
        ({"job_id": "20200101-none"}, "names no job"),
        ({"job_id": None}, "names no job"),
        ({"job_id": ["x"]}, "names no job"),
    ],
)
def test_a_batch_that_does_not_hold_is_set_aside_whole(stage: _Stage, changes: dict[str, Any], words: str):
    stage.consuming.consume(stage.batch(*stage.all_four(), **changes))
    assert stage.record.critiqued(stage.job_id) == set()
    (reason,) = stage.reasons()
    assert words in reason


@pytest.mark.parametrize("batch", [None, 7, "text", [1, 2], {}])
def test_what_is_no_batch_is_kept_unclaimed(stage: _Stage, batch: Any):
    stage.consuming.consume(batch)
    assert stage.reasons() == ["names no job that is known"]


def test_another_critique_of_a_picture_is_set_aside_and_the_same_again_is_nothing(stage: _Stage):
    first, other = make_critique(digest=DIGESTS[0]), make_critique(digest=DIGESTS[0], reasons="I see it otherwise")
    for critique in (first, first, other):
        stage.consuming.consume(stage.batch(critique))
    assert stage.reasons() == ["the picture has another critique, and the first one counts"]
    assert stage.record.critique(stage.job_id, first.image_digest) == first


def test_critiques_that_come_after_the_job_went_on_are_set_aside(stage: _Stage):
    late, *others = stage.all_four()
    stage.consuming.consume(stage.batch(*others))
    stage.record.advance(stage.record.load(stage.job_id), JobState.CANCELLED)
    stage.consuming.consume(stage.batch(late))
    assert len(stage.record.critiqued(stage.job_id)) == 3
    assert "the job is CANCELLED" in stage.reasons()[0]
    assert stage.queue.sent == []


def test_a_job_whose_message_could_not_be_sent_is_left_to_the_recovery(stage: _Stage):
    stage.queue.failure = Unavailable("the broker can't be reached")
    with pytest.raises(Unavailable):
        stage.consuming.consume(stage.batch(*stage.all_four()))
    assert Completing(stage.record, stage.queue).is_complete(stage.job_id)

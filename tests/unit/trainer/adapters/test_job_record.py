"""The record: immutable, and of those who race for a step one gets it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.common.runtime.errors import AlreadyExists, Conflict, NotFound, WrongState
from services.common.runtime.folder_store import FolderStore
from services.common.vision.critique import Critique
from services.common.vision.typed_rules import MaskSource
from services.trainer.adapters.job_record import JobRecord, checkpoints_path
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import JobState, Loss, Priority
from services.trainer.domain.selection import Selection
from services.trainer.ports import JobBrief
from tests.unit.trainer.made_up import RULES, make_critique, make_request


@pytest.fixture
def record(tmp_path: Path) -> JobRecord:
    return JobRecord(FolderStore(tmp_path))


def _race(count: int, act: Callable[[int], object]) -> list[object]:
    """What `count` threads got that start `act` together: a result or the error."""
    barrier, results = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = act(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_of_many_who_advance_a_job_from_the_same_state_one_wins(record: JobRecord):
    job = record.file(make_request())
    states = [JobState.CRITIQUING, JobState.CANCELLED] * 8
    results = _race(16, lambda number: record.advance(job, states[number]))
    losers = [result for result in results if isinstance(result, Conflict)]
    assert len(losers) == 15
    assert len(record.load(job.job_id).events) == 2


def test_advance_goes_from_where_the_caller_saw_the_job(record: JobRecord):
    seen = record.file(make_request())
    record.advance(seen, JobState.CANCELLED, reason="no")
    with pytest.raises(Conflict):
        record.advance(seen, JobState.CRITIQUING)
    assert record.load(seen.job_id).events[-1].reason == "no"


def test_advance_refuses_a_way_that_is_not_in_the_table(record: JobRecord):
    with pytest.raises(WrongState):
        record.advance(record.file(make_request()), JobState.PUBLISHED)


def test_same_key_filed_by_many_at_once_is_one_job(record: JobRecord):
    results = _race(12, lambda _: record.file(make_request(idempotency_key="k")))
    assert len({job.job_id for job in results}) == 1
    assert len(record.job_ids()) == 1


def test_same_key_with_other_content_is_refused_when_filed_and_when_sought(record: JobRecord):
    record.file(make_request(idempotency_key="k"))
    with pytest.raises(AlreadyExists, match="idempotency_key"):
        record.file(make_request(idempotency_key="k", asked_digest="other"))
    with pytest.raises(AlreadyExists, match="idempotency_key"):
        record.find("k", "other")


def test_find_knows_a_filed_key_and_no_other(record: JobRecord):
    job = record.file(make_request(idempotency_key="k"))
    assert record.find("k", job.request.asked_digest) == job
    assert record.find("never", "x") is None


def test_a_filing_cut_off_after_its_key_is_completed_by_the_next(tmp_path: Path, record: JobRecord):
    job = record.file(make_request(idempotency_key="k"))
    (tmp_path / "jobs" / job.job_id / "events" / "000000.json").unlink()
    assert record.job_ids() == []
    assert record.find("k", job.request.asked_digest) is None
    assert record.file(make_request(idempotency_key="k")).job_id == job.job_id


def test_a_jobs_choices_and_its_rules_are_kept(tmp_path: Path, record: JobRecord):
    choices = {"mask_source": MaskSource.AGREED, "loss": Loss.MASK_OUT, "selection": Selection.RANDOM}
    job = record.file(make_request(typed_rules=RULES, **choices))
    kept = JobRecord(FolderStore(tmp_path)).load(job.job_id).request
    assert kept.typed_rules == RULES
    assert {name: getattr(kept, name) for name in choices} == choices


def test_a_job_of_before_there_was_a_choice_takes_the_defaults(tmp_path: Path, record: JobRecord):
    job = record.file(make_request())
    path = tmp_path / "jobs" / job.job_id / "request.json"
    content = json.loads(path.read_text())
    for name in ("mask_source", "typed_rules", "loss", "selection"):
        del content[name]
    path.write_text(json.dumps(content))
    kept = record.load(job.job_id).request
    assert (kept.mask_source, kept.typed_rules) == (MaskSource.JUDGED, ())
    assert (kept.loss, kept.selection) == (Loss.RRR, Selection.LOW_ENTROPY_PER_CLASS)


def test_jobs_are_listed_newest_first(record: JobRecord):
    filed = [record.file(make_request()).job_id for _ in range(3)]
    assert record.job_ids() == filed[::-1]


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "x" * 65, "nope", "a\x00", "\ud800"])
def test_an_unknown_or_wild_job_id_is_not_found(record: JobRecord, job_id: str):
    with pytest.raises(NotFound):
        record.load(job_id)


def test_the_first_critique_of_a_picture_stays(record: JobRecord):
    job_id = record.file(make_request()).job_id
    first, second = make_critique(reasons="first"), make_critique(reasons="second")
    assert record.add_critique(job_id, first)
    assert not record.add_critique(job_id, second)
    assert record.critique(job_id, first.image_digest) == first
    assert record.critiqued(job_id) == {first.image_digest}


def test_verdicts_are_counted_as_they_come_in(record: JobRecord):
    job_id = record.file(make_request()).job_id
    assert record.verdict_counts(job_id) == {}
    critiques: list[Critique] = [make_critique(digest="a" * 64), make_critique(digest="b" * 64)]
    for number, critique in enumerate(critiques, start=1):
        record.add_critique(job_id, critique)
        assert record.verdict_counts(job_id) == {"SPURIOUS": number, "CORE": number}


def test_what_names_no_job_is_set_aside_unclaimed_and_once(tmp_path: Path, record: JobRecord):
    for _ in range(2):
        record.set_aside("../../etc", {"a": 1}, "why")
    (kept,) = (tmp_path / "unclaimed").iterdir()
    assert '"why"' in kept.read_text()


def test_a_brief_follows_the_job_and_stays_as_it_ended(record: JobRecord):
    job = record.file(make_request(submitter="ward 3"))
    assert record.brief(job.job_id) == JobBrief(JobState.QUEUED, "ward 3")
    job = record.advance(job, JobState.CRITIQUING)
    assert record.brief(job.job_id) == JobBrief(JobState.CRITIQUING, "ward 3")
    record.advance(job, JobState.FAILED)
    assert [record.brief(job.job_id) for _ in range(2)] == [JobBrief(JobState.FAILED, "ward 3")] * 2


def test_a_brief_sees_what_another_process_did(record: JobRecord, tmp_path: Path):
    job = record.file(make_request())
    assert record.brief(job.job_id).state == JobState.QUEUED
    JobRecord(FolderStore(tmp_path)).advance(job, JobState.CANCELLED)
    assert record.brief(job.job_id).state == JobState.CANCELLED


def test_a_job_that_was_filed_before_there_were_submitters_has_none(record: JobRecord, tmp_path: Path):
    job_id = record.file(make_request()).job_id
    path = tmp_path / "jobs" / job_id / "request.json"
    content = json.loads(path.read_text())
    for name in ("submitter", "priority", "criteria", "retry_of"):
        del content[name]
    path.write_text(json.dumps(content))
    assert record.brief(job_id) == JobBrief(JobState.QUEUED, "")
    request = record.load(job_id).request
    assert (request.priority, request.criteria, request.retry_of) == (Priority.NORMAL, Criteria(), "")


def test_there_is_no_brief_of_a_job_that_there_is_not(record: JobRecord):
    with pytest.raises(NotFound):
        record.brief("20261124-161100-000000-0123abcd")


@pytest.mark.parametrize("state", [JobState.EVALUATING, JobState.CANCELLED, JobState.FAILED])
def test_checkpoints_are_kept_while_a_job_trains_and_no_longer(tmp_path: Path, record: JobRecord, state: JobState):
    store = FolderStore(tmp_path)
    job = record.advance(record.file(make_request()), JobState.CRITIQUING)
    store.create(f"{checkpoints_path(job.job_id)}/000000001.safetensors", b"")
    record.advance(record.file(make_request()), JobState.CANCELLED)  # another job's end
    job = record.advance(job, JobState.TRAINING)
    assert store.exists(checkpoints_path(job.job_id))
    record.advance(job, state)
    assert not store.exists(checkpoints_path(job.job_id))


def test_counting_one_jobs_verdicts_holds_no_other_job_up(tmp_path: Path):
    reached, may_go_on = threading.Event(), threading.Event()
    slow_id = ""

    class _SlowStore(FolderStore):
        def read(self, path: str) -> bytes:
            if slow_id and path.startswith(f"jobs/{slow_id}/critiques"):
                reached.set()
                may_go_on.wait(30)
            return super().read(path)

    record = JobRecord(_SlowStore(tmp_path))
    slow, quick = (record.file(make_request()).job_id for _ in range(2))
    for job_id in (slow, quick):
        record.add_critique(job_id, make_critique())
    slow_id = slow
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(record.verdict_counts, slow)
        assert reached.wait(30)
        try:
            assert pool.submit(record.verdict_counts, quick).result(5) == {"SPURIOUS": 1, "CORE": 1}
        finally:
            may_go_on.set()
        assert waiting.result(30) == {"SPURIOUS": 1, "CORE": 1}

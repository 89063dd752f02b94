"""How jobs stand, in numbers: of a real record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.gauges import JobGauges
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobEvent, JobState
from services.trainer.handlers.unreadable import MAX_UNREADABLE_JOBS
from services.trainer.ports import JobBrief
from tests.unit.trainer.made_up import make_request


def read(name: str, state: JobState) -> float | None:
    return REGISTRY.get_sample_value(f"plumbline_trainer_{name}", {"state": state})


@pytest.fixture
def record(tmp_path: Path) -> JobRecord:
    """Two queued jobs, one that critiques since an hour, and one that was cancelled."""
    record = JobRecord(FolderStore(tmp_path))
    jobs = [record.file(make_request()) for _ in range(4)]
    record.advance(jobs[0], JobState.CANCELLED)
    began = JobEvent(state=JobState.CRITIQUING, at=datetime.now(UTC) - timedelta(hours=1))
    (tmp_path / "jobs" / jobs[1].job_id / "events" / "000001.json").write_text(began.model_dump_json())
    return record


def test_jobs_are_counted_by_state_and_the_longest_in_each_is_told(record: JobRecord):
    JobGauges(record).look()
    counts = {state: read("jobs", state) for state in JobState}
    assert {state: count for state, count in counts.items() if count} == {
        JobState.QUEUED: 2,
        JobState.CRITIQUING: 1,
        JobState.CANCELLED: 1,
    }
    assert 3600 <= read("oldest_job_seconds", JobState.CRITIQUING) < 3700
    assert 0 < read("oldest_job_seconds", JobState.QUEUED) < 100
    assert read("oldest_job_seconds", JobState.TRAINING) == 0
    assert read("oldest_job_seconds", JobState.CANCELLED) is None


@pytest.mark.parametrize("content", ["", "{}", '{"state": "LOST"}'])
def test_a_job_that_can_not_be_read_costs_its_own_number_alone(record: JobRecord, tmp_path: Path, content: str):
    broken = record.file(make_request())
    (tmp_path / "jobs" / broken.job_id / "events" / "000000.json").write_text(content)
    JobGauges(record).look()
    assert read("jobs", JobState.QUEUED) == 2


def test_a_job_that_the_store_refuses_to_read_costs_its_own_number_alone(
    record: JobRecord, monkeypatch: pytest.MonkeyPatch
):
    refused, brief = record.file(make_request()).job_id, record.brief

    def refuse(job_id: str) -> JobBrief:
        if job_id == refused:
            raise Unavailable("artifact store: Permission denied")
        return brief(job_id)

    monkeypatch.setattr(record, "brief", refuse)
    JobGauges(record).look()
    assert (read("jobs", JobState.QUEUED), read("jobs", JobState.CRITIQUING)) == (2, 1)


def test_a_record_that_is_away_is_no_record_without_jobs(record: JobRecord, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def fail(job_id: str) -> None:
        asked.append(job_id)
        raise Unavailable("the store is away")

    monkeypatch.setattr(record, "brief", fail)
    with pytest.raises(Unavailable):
        JobGauges(record).look()
    assert len(asked) == MAX_UNREADABLE_JOBS < len(record.job_ids())

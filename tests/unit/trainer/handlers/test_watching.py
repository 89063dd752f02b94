"""Pages of jobs: newest first, without gaps, only those that are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.handlers.watching import Watching
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.made_up import make_request


class _Stage:
    """Nine jobs of three submitters in turn; every second one is cancelled."""

    def __init__(self, root: Path) -> None:
        self.record = JobRecord(FolderStore(root))
        self.watching = Watching(self.record, LastProgress())
        self.filed = [self.record.file(make_request(submitter=f"ward {number % 3}")).job_id for number in range(9)]
        for job_id in self.filed[::2]:
            self.record.advance(self.record.load(job_id), JobState.CANCELLED)

    def list(self, size: int, **asked: object) -> list[list[str]]:
        """The pages."""
        pages, token = [], ""
        while True:
            views, token = self.watching.page(size, token, **asked)
            pages.append([view.job.job_id for view in views])
            if not token:
                return pages


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


@pytest.mark.parametrize("size", [1, 2, 3, 9, 50])
@pytest.mark.parametrize(
    ("asked", "numbers"),
    [
        ({}, range(9)),
        ({"states": [JobState.CANCELLED]}, range(0, 9, 2)),
        ({"states": [JobState.QUEUED, JobState.CANCELLED]}, range(9)),
        ({"submitter": "ward 1"}, range(1, 9, 3)),
        ({"states": [JobState.QUEUED], "submitter": "ward 1"}, [1, 7]),
        ({"submitter": "nobody"}, []),
    ],
)
def test_pages_hold_what_is_asked_for_once_newest_first(stage: _Stage, size: int, asked: dict, numbers: list[int]):
    pages = stage.list(size, **asked)
    assert [job_id for page in pages for job_id in page] == [stage.filed[number] for number in reversed(numbers)]
    assert all(len(page) == size for page in pages[:-1])


def test_a_job_is_listed_where_it_stands_now(stage: _Stage):
    assert len(stage.list(50, states=[JobState.CRITIQUING])[0]) == 0
    stage.record.advance(stage.record.load(stage.filed[1]), JobState.CRITIQUING)
    assert stage.list(50, states=[JobState.CRITIQUING]) == [[stage.filed[1]]]
    assert stage.filed[1] not in stage.list(50, states=[JobState.QUEUED])[0]

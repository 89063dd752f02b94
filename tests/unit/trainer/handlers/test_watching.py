"""Pages of jobs: newest first, without gaps, only those that are asked for. What is shown of one, and its cancellation."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.handlers.watching import Watching
from services.trainer.ports import Progress
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.made_up import make_request


class _Stage:
    """Nine jobs of three submitters in turn; every second one is cancelled."""

    def __init__(self, root: Path) -> None:
        self.record = JobRecord(FolderStore(root))
        self.board = LastProgress()
        self.watching = Watching(self.record, self.board)
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


def test_progress_is_that_of_the_state_and_never_left_over_from_the_one_before(stage: _Stage):
    job = stage.record.load(stage.filed[1])
    critiqued, trained = Progress(40, 40, "image"), Progress(3, 1000, "batch")
    seen = []
    for state, shown in (
        (JobState.CRITIQUING, critiqued),
        (JobState.AWAITING_REVIEW, None),
        (JobState.TRAINING, None),
        (JobState.TRAINING, trained),
        (JobState.EVALUATING, None),
    ):
        if job.state != state:
            job = stage.record.advance(job, state)
        if shown:
            stage.board.show(job.job_id, shown)
        seen.append(stage.watching.look(job.job_id).progress)
    assert seen == [critiqued, None, None, trained, None]


def test_a_reason_that_every_list_would_have_to_carry_has_an_end(stage: _Stage):
    with pytest.raises(InvalidInput, match="reason: longer than 1000 characters"):
        stage.watching.cancel(stage.filed[1], "x" * 1001)
    assert stage.watching.cancel(stage.filed[1], "x" * 1000).job.state == JobState.CANCELLED

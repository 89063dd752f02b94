"""Look at jobs and cancel them."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.runtime.errors import InvalidInput
from services.common.vision.critique import Critique
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.training import METRICS
from services.trainer.ports import Progress, ProgressBoard, Record

DEFAULT_PAGE, MAX_PAGE = 50, 1000


@dataclass(frozen=True)
class JobView:
    """A job with all that is known of it."""

    job: Job
    progress: Progress | None
    metrics: dict | None
    verdict_counts: dict[str, int]


class Watching:
    """Reads the record; `cancel` is the one change."""

    def __init__(self, record: Record, board: ProgressBoard) -> None:
        self._record = record
        self._board = board

    def look(self, job_id: str) -> JobView:
        """The job as it is now; `NotFound` when there is none."""
        job = self._record.load(job_id)
        counts: dict[str, int] = {}
        for critique in self._record.critiques(job_id):
            for verdict in critique.verdicts:
                counts[verdict.verdict.value] = counts.get(verdict.verdict.value, 0) + 1
        progress = None if job.state.is_final else self._board.look(job_id)
        return JobView(job, progress, self._record.read(job_id, METRICS), counts)

    def page(self, size: int, token: str) -> tuple[list[JobView], str]:
        """Jobs, newest first, and the next page's token, empty on the last page."""
        size = check_page_size(size)
        older = [job_id for job_id in self._record.job_ids() if not token or job_id < token]
        views = [self.look(job_id) for job_id in older[:size]]
        return views, older[size - 1] if len(older) > size else ""

    def critiques(self, job_id: str, size: int, token: str) -> tuple[list[tuple[Critique, bytes]], str]:
        """Critiques with their pictures' files, by digest, and the next page's token."""
        size = check_page_size(size)
        self._record.load(job_id)
        later = [critique for critique in self._record.critiques(job_id) if critique.image_digest > token]
        page = [(critique, self._record.picture(job_id, critique.image_digest)) for critique in later[:size]]
        return page, later[size - 1].image_digest if len(later) > size else ""

    def cancel(self, job_id: str, reason: str) -> JobView:
        """End a job; `WrongState` when it has ended."""
        self._record.advance(job_id, JobState.CANCELLED, reason=reason or "cancelled")
        return self.look(job_id)


def check_page_size(size: int) -> int:
    """`size`, or the default for 0; `InvalidInput` when it is out of range."""
    if not 0 <= size <= MAX_PAGE:
        raise InvalidInput("page_size", f"expected 1 to {MAX_PAGE}, or 0 for the default; got {size}")
    return size or DEFAULT_PAGE

"""Look at jobs and cancel them."""

from __future__ import annotations

from dataclasses import dataclass

from services.common.runtime.errors import Conflict, InvalidInput
from services.common.vision.critique import Critique
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.training import METRICS
from services.trainer.ports import Archive, Progress, ProgressBoard

MAX_PAGE = 1000
DEFAULT_JOBS, DEFAULT_CRITIQUES = 50, 100
MAX_PAGE_BYTES = 32 * 2**20
"""Of pictures in one page: a message must stay below what gRPC takes."""
_CANCEL_ATTEMPTS = 3


@dataclass(frozen=True)
class JobView:
    """A job with all that is known of it."""

    job: Job
    progress: Progress | None
    metrics: dict | None
    verdict_counts: dict[str, int]


class Watching:
    """Reads the record; `cancel` is the one change."""

    def __init__(self, archive: Archive, board: ProgressBoard) -> None:
        self._archive = archive
        self._board = board

    def look(self, job_id: str) -> JobView:
        """The job as it is now; `NotFound` when there is none."""
        job = self._archive.load(job_id)
        progress = None if job.state.is_final else self._board.look(job_id)
        return JobView(job, progress, self._archive.read(job_id, METRICS), self._archive.verdict_counts(job_id))

    def page(self, size: int, token: str) -> tuple[list[JobView], str]:
        """Jobs, newest first, and the next page's token, empty on the last page."""
        size = _check_page_size(size, DEFAULT_JOBS)
        older = [job_id for job_id in self._archive.job_ids() if not token or job_id < token]
        views = [self.look(job_id) for job_id in older[:size]]
        return views, older[size - 1] if len(older) > size else ""

    def critiques(self, job_id: str, size: int, token: str) -> tuple[list[tuple[Critique, bytes]], str]:
        """Critiques with their pictures' files, by digest, and the next page's token; a page ends early at 32 MiB."""
        size = _check_page_size(size, DEFAULT_CRITIQUES)
        self._archive.load(job_id)
        later = sorted(digest for digest in self._archive.critiqued(job_id) if digest > token)
        page: list[tuple[Critique, bytes]] = []
        page_bytes = 0
        for digest in later[:size]:
            data = self._archive.picture(job_id, digest)
            page_bytes += len(data)
            if page and page_bytes > MAX_PAGE_BYTES:
                break
            page.append((self._archive.critique(job_id, digest), data))
        return page, later[len(page) - 1] if len(later) > len(page) else ""

    def cancel(self, job_id: str, reason: str) -> JobView:
        """End a job; `WrongState` when it has ended, or is being evaluated and published."""
        for attempt in range(_CANCEL_ATTEMPTS):
            try:
                self._archive.advance(self._archive.load(job_id), JobState.CANCELLED, reason=reason or "cancelled")
                break
            except Conflict:  # a worker moved it at the same moment
                if attempt == _CANCEL_ATTEMPTS - 1:
                    raise
        return self.look(job_id)


def _check_page_size(size: int, default: int) -> int:
    """`size`, or `default` for 0; `InvalidInput` when it is out of range."""
    if not 0 <= size <= MAX_PAGE:
        raise InvalidInput("page_size", f"expected 1 to {MAX_PAGE}, or 0 for the default; got {size}")
    return size or default

"""Look at jobs and cancel them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from services.common.runtime.audit_log import MAX_REASON_LENGTH
from services.common.runtime.errors import Conflict, InvalidInput
from services.common.vision.critique import Critique
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import Standing, latest_decisions
from services.trainer.handlers.completing import EXPECTED
from services.trainer.handlers.paging import MAX_PAGE, check_page_size
from services.trainer.handlers.training import METRICS
from services.trainer.ports import Archive, Progress, ProgressBoard

DEFAULT_JOBS, DEFAULT_CRITIQUES = 50, 100
MAX_PAGE_BYTES = 32 * 2**20
"""Of pictures and what was said of them in one page: a message must stay below what gRPC takes."""
_CANCEL_ATTEMPTS = 3
_UNITS = {JobState.CRITIQUING: "image", JobState.TRAINING: "batch"}
"""What progress counts within a state. The board keeps the last word of the state before until something is done in the next one."""


@dataclass(frozen=True)
class JobView:
    """A job with all that is known of it."""

    job: Job
    progress: Progress | None
    metrics: dict | None
    verdict_counts: dict[str, int]


@dataclass(frozen=True)
class CritiquedPicture:
    """What was said of a picture first, the picture's file, empty where that was not asked for, and the review that counts for it."""

    critique: Critique
    data: bytes
    review: Standing | None

    @property
    def byte_count(self) -> int:
        """About as long as it is in a message."""
        edit = self.review.decision.edit if self.review else None
        return len(self.data) + self.critique.byte_count + (edit.byte_count if edit else 0)


@dataclass(frozen=True)
class ChosenPicture:
    """A picture of the data set that the job has chosen to have critiqued; its size is that of its masks."""

    file_name: str
    digest: str
    label: str
    height_px: int
    width_px: int
    is_critiqued: bool


class Watching:
    """Reads the record; `cancel` is the one change."""

    def __init__(self, archive: Archive, board: ProgressBoard) -> None:
        self._archive = archive
        self._board = board

    def look(self, job_id: str) -> JobView:
        """The job as it is now; `NotFound` when there is none."""
        job = self._archive.load(job_id)
        progress = self._board.look(job_id) if job.state in _UNITS else None
        if progress and progress.unit != _UNITS[job.state]:
            progress = None
        return JobView(job, progress, self._archive.read(job_id, METRICS), self._archive.verdict_counts(job_id))

    def page(
        self, size: int, token: str, states: Collection[JobState] = (), submitter: str = ""
    ) -> tuple[list[JobView], str]:
        """Jobs, newest first, and the next page's token, empty on the last page; only those at one of `states` and of `submitter`, if given."""
        size = check_page_size(size, DEFAULT_JOBS)
        older = (job_id for job_id in self._archive.job_ids() if not token or job_id < token)
        if states or submitter:
            older = (job_id for job_id in older if self._is_asked(job_id, states, submitter))
        page = list(islice(older, size + 1))
        return [self.look(job_id) for job_id in page[:size]], page[size - 1] if len(page) > size else ""

    def _is_asked(self, job_id: str, states: Collection[JobState], submitter: str) -> bool:
        brief = self._archive.brief(job_id)
        return (not states or brief.state in states) and submitter in ("", brief.submitter)

    def pictures(self, job_id: str, size: int, token: str) -> tuple[list[ChosenPicture], str]:
        """Chosen pictures, by digest, and the next page's token; none while they are still being chosen."""
        size = check_page_size(size, MAX_PAGE)
        self._archive.load(job_id)
        expected, critiqued = self._archive.read(job_id, EXPECTED) or {}, self._archive.critiqued(job_id)
        later = sorted(digest for digest in expected if digest > token)
        page = [
            ChosenPicture(entry["file_name"], digest, entry["label"], *entry["size"], digest in critiqued)
            for digest, entry in ((digest, expected[digest]) for digest in later[:size])
        ]
        return page, later[size - 1] if len(later) > size else ""

    def critiques(
        self, job_id: str, size: int, token: str, with_pictures: bool = True
    ) -> tuple[list[CritiquedPicture], str]:
        """Critiques as they came, with their reviews and, if asked for, pictures' files, by digest, and the next page's token; a page ends early at 32 MiB."""
        size = check_page_size(size, DEFAULT_CRITIQUES)
        self._archive.load(job_id)
        later = sorted(digest for digest in self._archive.critiqued(job_id) if digest > token)
        reviews = latest_decisions(self._archive.reviews(job_id))
        page: list[CritiquedPicture] = []
        page_bytes = 0
        for digest in later[:size]:
            data = self._archive.picture(job_id, digest) if with_pictures else b""
            picture = CritiquedPicture(self._archive.critique(job_id, digest), data, reviews.get(digest))
            page_bytes += picture.byte_count
            if page and page_bytes > MAX_PAGE_BYTES:
                break
            page.append(picture)
        return page, later[len(page) - 1] if len(later) > len(page) else ""

    def cancel(self, job_id: str, reason: str, caller: str = "") -> JobView:
        """End a job; `WrongState` when it has ended, or is being evaluated and published, `InvalidInput` when the reason is too long."""
        if len(reason) > MAX_REASON_LENGTH:
            raise InvalidInput("reason", f"longer than {MAX_REASON_LENGTH} characters")
        for attempt in range(_CANCEL_ATTEMPTS):
            try:
                job = self._archive.load(job_id)
                self._archive.advance(job, JobState.CANCELLED, reason=reason or "cancelled", caller=caller)
                break
            except Conflict:  # a worker moved it at the same moment
                if attempt == _CANCEL_ATTEMPTS - 1:
                    raise
        return self.look(job_id)

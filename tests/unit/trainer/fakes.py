"""Doubles of our own ports for what needs a server: the broker and its leases. The record is always the real one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from services.common.runtime.errors import Conflict, ServiceError
from services.trainer.domain.job import Job
from services.trainer.ports import Progress, RunEnd, TrackedJob


class ListQueue:
    """A `Queue` that keeps what was sent; raises `failure` while there is one."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.failure: ServiceError | None = None
        self.waiting: set[str] = set()

    def waiting_jobs(self) -> set[str]:
        return self.waiting

    def send_critique(self, job: Job) -> None:
        self._send("critique", job.job_id)

    def send_train(self, job: Job) -> None:
        self._send("train", job.job_id)

    def _send(self, step: str, job_id: str) -> None:
        if self.failure:
            raise self.failure
        self.sent.append((step, job_id))


class LocalLease:
    """A `Lease` within this process; `claimed` and `recovered` hold jobs that are and were sent on, `on_claim` is what happens meanwhile."""

    def __init__(self) -> None:
        self.held: set[tuple[str, str]] = set()
        self.active: set[str] = set()
        self.claimed: set[str] = set()
        self.recovered: set[str] = set()
        self.on_claim: Callable[[], object] = lambda: None

    @contextmanager
    def hold(self, job_id: str, step: str) -> Iterator[Callable[[], bool]]:
        if (job_id, step) in self.held:
            raise Conflict(f"job {job_id}: another worker is at the {step} step")
        self.held.add((job_id, step))
        try:
            yield lambda: (job_id, step) in self.held
        except Exception as error:
            if (job_id, step) not in self.held:
                raise Conflict(f"job {job_id}: the lease was lost at the {step} step") from error
            raise
        finally:
            self.held.discard((job_id, step))

    def touch(self, job_id: str) -> None:
        self.active.add(job_id)

    def is_active(self, job_id: str) -> bool:
        return job_id in self.active or any(held == job_id for held, _ in self.held)

    def claim_recovery(self, job_id: str) -> bool:
        is_first = job_id not in self.claimed | self.recovered
        self.claimed.add(job_id)
        self.on_claim()
        return is_first

    def note_recovery(self, job_id: str) -> None:
        self.claimed.discard(job_id)
        self.recovered.add(job_id)


class ListTracker:
    """A `Tracker` in memory: what it was told, in order; raises `failure` while there is one, after `hold` is set where there is one."""

    def __init__(self) -> None:
        self.told: list[TrackedJob | tuple[str, int, Mapping[str, float]] | RunEnd] = []
        self.failure: Exception | None = None
        self.hold: threading.Event | None = None

    def begin(self, job: TrackedJob) -> None:
        self._take(job)

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        self._take((job_id, step, numbers))

    def end(self, job_id: str, end: RunEnd) -> None:
        self._take(end)

    def _take(self, told: TrackedJob | tuple[str, int, Mapping[str, float]] | RunEnd) -> None:
        if self.hold:
            self.hold.wait()
        if self.failure:
            raise self.failure
        self.told.append(told)


class LastProgress:
    """A `ProgressBoard` in memory."""

    def __init__(self) -> None:
        self.shown: dict[str, Progress] = {}

    def show(self, job_id: str, progress: Progress) -> None:
        self.shown[job_id] = progress

    def look(self, job_id: str) -> Progress | None:
        return self.shown.get(job_id)

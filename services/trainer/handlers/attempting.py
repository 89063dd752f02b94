"""A job's attempts at a step, as the record has them: every start is noted, and every end; a start without an end was lost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from services.trainer.ports import JobFiles


@contextmanager
def attempt(files: JobFiles, job_id: str, step: str) -> Iterator[None]:
    """Note an attempt at `step` around the block. An exception is an orderly end too; only a worker that dies leaves none.

    The caller holds the step's lease.
    """
    number = next(n for n in itertools.count() if files.write_once(job_id, _start(step, n), _now()))
    try:
        yield
    finally:
        files.write_once(job_id, _end(step, number), _now())


def count_lost(files: JobFiles, job_id: str, step: str) -> int:
    """How many attempts at `step` have no end. One that is still going counts, so ask when nobody holds the step."""
    started = itertools.takewhile(lambda n: files.read(job_id, _start(step, n)) is not None, itertools.count())
    return sum(files.read(job_id, _end(step, number)) is None for number in started)


def _start(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.json"


def _end(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.ended.json"


def _now() -> dict[str, str]:
    return {"at": datetime.now(UTC).isoformat()}

"""A job's attempts at a step, as the record has them: every start is noted, and every end; a start without an end was lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from services.trainer.ports import JobFiles


@contextmanager
def attempt(files: JobFiles, job_id: str, step: str) -> Iterator[None]:
    """Note an attempt at `step` around the block. An exception is an orderly end too; only a worker that dies leaves none.

    The caller holds the step's lease.
    """
    number = next(n for n in itertools.count() if files.write_once(job_id, _start(step, n), note()))
    try:
        yield
    finally:
        files.write_once(job_id, _end(step, number), note())


def count_lost(files: JobFiles, job_id: str, step: str) -> int:
    """How many attempts at `step` have no end. One that is still going counts, so ask when nobody holds the step."""
    started = read_series(files, job_id, lambda number: _start(step, number))
    return sum(files.read(job_id, _end(step, number)) is None for number in range(len(started)))


def read_series(files: JobFiles, job_id: str, name: Callable[[int], str]) -> list[Any]:
    """The kept objects that `name` numbers, from 0 to the last."""
    contents = (files.read(job_id, name(number)) for number in itertools.count())
    return list(itertools.takewhile(lambda content: content is not None, contents))


def note() -> dict[str, str]:
    """What a note in the record says at least: when it was made."""
    return {"at": datetime.now(UTC).isoformat()}


def _start(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.json"


def _end(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.ended.json"

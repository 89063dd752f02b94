"""A job's attempts at a step, as the record has them: every start is noted, and every end; a start without an end was lost."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from services.common.runtime.errors import WrongState
from services.trainer.ports import JobFiles, RunKilled

MAX_LOST_ATTEMPTS = 3
"""A job whose step took so many workers or training processes along is poison: it ends FAILED and takes no further one."""


@contextmanager
def attempt(files: JobFiles, job_id: str, step: str) -> Iterator[None]:
    """Note an attempt at `step` around the block. An exception is an orderly end too; only a worker or a training that dies leaves none.

    The caller holds the step's lease.

    Raises
    ------
    WrongState
        Instead of `RunKilled`, when the step was lost too often for another try.
    """
    number = next(n for n in itertools.count() if files.write_once(job_id, _start(step, n), note()))
    is_lost = False
    try:
        yield
    except RunKilled as error:
        is_lost = True
        if count_lost(files, job_id, step) >= MAX_LOST_ATTEMPTS:
            raise WrongState(f"{tell_lost(step)}, at last so: {error.message}") from error
        raise
    finally:
        if not is_lost:
            files.write_once(job_id, _end(step, number), note())


def tell_lost(step: str) -> str:
    """Why a job ends whose `step` was lost too often."""
    return f"gave up: it was lost {MAX_LOST_ATTEMPTS} times at the {step} step"


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

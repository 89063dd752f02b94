"""A job's attempts at a step, as the record has them: every start is noted, and every end; a start without an end was lost."""

from __future__ import annotations

import bisect
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from services.common.runtime.errors import ServiceError, WrongState
from services.trainer.ports import JobFiles, RunKilled

log = logging.getLogger(__name__)

MAX_LOST_ATTEMPTS = 3
"""A job whose step took so many workers or training processes along is poison: it ends FAILED and takes no further one."""


class _Ends:
    """Ends of attempts. One that can't be noted when it comes, as the store is away, is noted before the next attempts are counted: without it, it would be lost."""

    def __init__(self) -> None:
        self._owed: WeakKeyDictionary[JobFiles, list[tuple[str, str]]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def note(self, files: JobFiles, job_id: str, name: str) -> None:
        """Note the end of an attempt, now or later."""
        with self._lock:
            self._owed.setdefault(files, []).append((job_id, name))
        self.settle(files)

    def settle(self, files: JobFiles) -> None:
        """Note what is owed, as far as that can be done."""
        with self._lock:
            owed, self._owed[files] = self._owed.get(files, []), []
            for job_id, name in owed:
                try:
                    files.write_once(job_id, name, note())
                except ServiceError as error:
                    self._owed[files].append((job_id, name))
                    log.warning("end of an attempt not noted yet", extra={"job_id": job_id, "kind": error.kind})


_ends = _Ends()


@contextmanager
def attempt(files: JobFiles, job_id: str, step: str) -> Iterator[None]:
    """Note an attempt at `step` around the block. An exception is an orderly end too; only a worker or a training that dies leaves none.

    The caller holds the step's lease.

    Raises
    ------
    WrongState
        Instead of `RunKilled`, when the step was lost too often for another try.
    """
    started = count_series(files, job_id, partial(_start, step))
    number = next(n for n in itertools.count(started) if files.write_once(job_id, _start(step, n), note()))
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
            _ends.note(files, job_id, _end(step, number))


def tell_lost(step: str) -> str:
    """Why a job ends whose `step` was lost too often."""
    return f"gave up: it was lost {MAX_LOST_ATTEMPTS} times at the {step} step"


def count_lost(files: JobFiles, job_id: str, step: str) -> int:
    """How many attempts at `step` have no end. One that is still going counts, so ask when nobody holds the step."""
    _ends.settle(files)
    started = count_series(files, job_id, partial(_start, step))
    return sum(files.read(job_id, _end(step, number)) is None for number in range(started))


def read_series(files: JobFiles, job_id: str, name: Callable[[int], str]) -> list[Any]:
    """The kept objects that `name` numbers, from 0 to the last."""
    contents = (files.read(job_id, name(number)) for number in itertools.count())
    return list(itertools.takewhile(lambda content: content is not None, contents))


def count_series(files: JobFiles, job_id: str, name: Callable[[int], str]) -> int:
    """How many objects `name` numbers, from 0; of n it looks at some 2 log n."""

    def is_missing(number: int) -> bool:
        return files.read(job_id, name(number)) is None

    beyond = next(2**power for power in itertools.count() if is_missing(2**power - 1)) - 1
    return bisect.bisect_left(range(beyond), True, key=is_missing)


def note() -> dict[str, str]:
    """What a note in the record says at least: when it was made."""
    return {"at": datetime.now(UTC).isoformat()}


def _start(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.json"


def _end(step: str, number: int) -> str:
    return f"attempts/{step}-{number}.ended.json"

"""Attempts at a step, as the record has them, also when it was away as one ended."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.handlers.attempting import attempt, count_lost, count_series
from services.trainer.ports import WorkerStopping
from tests.unit.trainer.made_up import make_request


class _Record(JobRecord):
    """The real one; its store is away while `is_away`."""

    is_away = False

    def __init__(self, root: Path) -> None:
        super().__init__(FolderStore(root))
        self.calls: Counter[str] = Counter()
        self.job_id = self.file(make_request()).job_id

    def write_once(self, job_id: str, name: str, content: Any) -> bool:
        self.calls["write"] += 1
        if self.is_away:
            raise Unavailable("artifact store: away")
        return super().write_once(job_id, name, content)

    def read(self, job_id: str, name: str) -> Any | None:
        self.calls["read"] += 1
        return super().read(job_id, name)


@pytest.fixture
def record(tmp_path: Path) -> _Record:
    return _Record(tmp_path)


def try_while_the_store_goes_away(record: _Record, end: Exception | None) -> None:
    with attempt(record, record.job_id, "train"):
        record.is_away = True
        if end:
            raise end


def test_an_attempt_whose_end_could_not_be_noted_is_not_lost_once_the_store_is_back(record: _Record):
    for _ in range(3):
        try_while_the_store_goes_away(record, None)
        record.is_away = False
    assert count_lost(record, record.job_id, "train") == 0


def test_how_an_attempt_ended_is_told_and_not_that_its_end_could_not_be_noted(record: _Record):
    with pytest.raises(WorkerStopping, match="told to go"):
        try_while_the_store_goes_away(record, WorkerStopping("told to go"))


def test_what_is_owed_waits_for_as_long_as_the_store_is_away(record: _Record):
    try_while_the_store_goes_away(record, None)
    assert count_lost(record, record.job_id, "train") == 1
    record.is_away = False
    assert count_lost(record, record.job_id, "train") == 0


def test_to_begin_costs_little_however_many_attempts_there_were(record: _Record):
    for _ in range(100):
        with attempt(record, record.job_id, "train"):
            pass
    record.calls.clear()
    with attempt(record, record.job_id, "train"):
        pass
    assert record.calls["write"] == 2
    assert record.calls["read"] < 20


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7, 8, 9])
def test_a_series_is_counted(record: _Record, count: int):
    for number in range(count):
        record.write_once(record.job_id, f"rounds/{number}.json", {})
    assert count_series(record, record.job_id, "rounds/{}.json".format) == count

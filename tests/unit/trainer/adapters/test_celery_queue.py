"""What is told when the broker is away, and which jobs' messages wait in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.common.runtime.broker import Broker
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.queues import CRITIQUES_QUEUE, JOBS_QUEUE
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.job_record import JobRecord
from services.trainer.ports import BrokerAway
from tests.unit.trainer.made_up import make_request


class _Lists:
    """A Celery app and its connection to a broker whose lists hold messages with these arguments."""

    def __init__(self, lists: dict[str, list[Any]]) -> None:
        self._lists = {queue: [_message(each) for each in arguments] for queue, arguments in lists.items()}
        self.default_channel = SimpleNamespace(client=self)

    @contextmanager
    def connection_for_write(self) -> Iterator[_Lists]:
        yield self

    def llen(self, queue: str) -> int:
        return len(self._lists.get(queue, []))

    def lrange(self, queue: str, start: int, end: int) -> list[bytes]:
        return self._lists[queue][start : end + 1]


def _message(arguments: Any) -> bytes:
    body = base64.b64encode(json.dumps([[], arguments, {}]).encode()).decode()
    return json.dumps({"body": body}).encode()


def test_a_job_waits_while_its_step_does_or_critiques_of_its_pictures():
    lists = {
        CRITIQUES_QUEUE: [{"batch": {"job_id": f"critiqued-{number}"}} for number in range(250)],
        JOBS_QUEUE: [{"job_id": "stepped"}],
    }
    assert CeleryQueue(_Lists(lists)).waiting_jobs() == {"stepped", *(f"critiqued-{number}" for number in range(250))}


@pytest.mark.parametrize(
    "arguments", [{"batch": None}, {"batch": []}, {"batch": {}}, {"batch": {"job_id": 1}}, [], None]
)
def test_a_batch_that_names_no_job_is_none_that_waits(arguments: Any):
    assert CeleryQueue(_Lists({CRITIQUES_QUEUE: [arguments]})).waiting_jobs() == set()


@pytest.mark.parametrize("send", [CeleryQueue.send_critique, CeleryQueue.send_train])
def test_whoever_files_a_job_or_ends_its_review_is_told_that_it_is_not_lost(tmp_path: Path, send):
    job = JobRecord(FolderStore(tmp_path)).file(make_request())
    with pytest.raises(BrokerAway, match="the job is on record, and a worker sends it on once the broker is back"):
        send(CeleryQueue(build_app(Broker("redis://127.0.0.1:1/0"))), job)

"""A real Redis of our own, and the trainer's processes on it. Explainer and LVLM service are away: their addresses are closed ports."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import redis

from plumbline.stack.processes import Child, Command, free_port, start, stop
from plumbline.stack.redis import redis_command
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.broker import Broker
from services.common.runtime.open_store import open_store
from services.trainer.adapters.job_record import JobRecord
from tests.support.waiting import wait_for

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    state, port = tmp_path_factory.mktemp("redis"), free_port()
    child = start(redis_command(state, port), state / "log")
    with redis.Redis(port=port) as client:
        wait_for(lambda: _answers(client), 20)
    yield port
    stop([child])


@pytest.fixture
def broker_url(redis_port: int) -> Iterator[str]:
    """A database of its own server, emptied afterwards."""
    yield f"redis://127.0.0.1:{redis_port}/0"
    with redis.Redis(port=redis_port) as client:
        client.flushdb()


@dataclass
class Trainer:
    """Folders, settings and processes of one trainer."""

    root: Path
    broker_url: str
    listen: str
    children: list[Child] = field(default_factory=list)
    store_root: str = ""
    """Root of the artifact store; the folder `store` when empty."""

    @cached_property
    def store(self) -> ArtifactStore:
        return open_store(self.store_root or self.root / "store")

    @property
    def broker(self) -> Broker:
        return Broker(self.broker_url)

    @property
    def record(self) -> JobRecord:
        return JobRecord(self.store)

    def start(self, part: str, **settings: str) -> Child:
        """Start `api` or `worker`; further settings by name."""
        closed = f"127.0.0.1:{free_port()}"
        named = {
            "listen": self.listen,
            "broker_url": self.broker_url,
            "store_root": self.store_root or self.root / "store",
            "data_root": self.root / "data",
            "explainer_address": closed,
            "lvlm_address": closed,
            "explainer_timeout_s": 2,
        }
        environment = {f"TRAINER_{name.upper()}": str(value) for name, value in (named | settings).items()}
        environment |= {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        # The coverage of a child is none of ours; one thread, as the machine is shared.
        environment |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        name = f"{part}-{len(self.children)}"
        command = Command(name, [sys.executable, "-m", "services.trainer", part], environment)
        self.children.append(start(command, self.root / "log"))
        if part == "worker":
            log = self.root / "log" / f"{name}.log"
            wait_for(lambda: "ready." in log.read_text(), 60)
        return self.children[-1]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Ends what was started."""
        try:
            yield
        finally:
            stop(self.children)

    def logs(self) -> str:
        return "".join(path.read_text() for path in sorted((self.root / "log").glob("*.log")))


@pytest.fixture
def trainer(tmp_path: Path, broker_url: str) -> Iterator[Trainer]:
    (tmp_path / "data").mkdir()
    made = Trainer(tmp_path, broker_url, f"127.0.0.1:{free_port()}")
    with made.running():
        yield made


def _answers(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.ConnectionError:
        return False

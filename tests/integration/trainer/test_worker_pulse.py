"""A worker's sign of life on a Redis of its own: it stands when the worker hangs, and nobody blames the worker for a broker that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from plumbline.stack.processes import Child, free_port, start, stop
from plumbline.stack.redis import redis_command
from services.trainer.adapters.pulse import is_deaf
from tests.integration.trainer.conftest import Trainer
from tests.support.waiting import wait_for

STILL_S = 6.0
SEEN_S = 60.0


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[list[Child]]:
    """The one that runs is the last."""
    command = redis_command(tmp_path / "redis", free_port())
    servers = [start(command, tmp_path / "log")]
    yield servers
    stop(servers)


@pytest.fixture
def own_trainer(tmp_path: Path, redis_server: list[Child]) -> Iterator[Trainer]:
    arguments = list(redis_server[0].command.arguments)
    port = arguments[arguments.index("--port") + 1]
    made = Trainer(tmp_path, f"redis://127.0.0.1:{port}/0", f"127.0.0.1:{free_port()}")
    (tmp_path / "data").mkdir()
    with made.running():
        yield made


def test_worker_that_hangs_is_deaf_and_one_without_a_broker_is_not(own_trainer: Trainer, redis_server: list[Child]):
    pulse = own_trainer.root / "pulse"
    worker = own_trainer.start("worker", worker_pulse=str(pulse)).process

    def is_still() -> bool:
        return time.time() - pulse.stat().st_mtime > STILL_S

    def is_blamed() -> bool:
        return is_deaf(pulse, own_trainer.broker, STILL_S)

    assert not is_blamed()
    worker.send_signal(signal.SIGSTOP)
    wait_for(is_blamed, SEEN_S)
    worker.send_signal(signal.SIGCONT)
    wait_for(lambda: not is_blamed(), SEEN_S)
    redis_server[-1].process.kill()
    wait_for(is_still, SEEN_S)
    assert not is_blamed()
    redis_server.append(start(redis_server[0].command, own_trainer.root / "log"))
    wait_for(lambda: not is_still(), SEEN_S)
    assert worker.poll() is None


def probe(trainer: Trainer, **settings: str) -> subprocess.CompletedProcess[str]:
    named = {"broker_url": trainer.broker_url, "listen": "x:1", "store_root": "x", "data_root": "x"}
    named |= {"explainer_address": "x", "lvlm_address": "x"} | settings
    environment = os.environ | {f"TRAINER_{name.upper()}": value for name, value in named.items()}
    command = [sys.executable, "-m", "services.trainer.probe"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_probe_says_by_its_status_whether_the_worker_is_deaf(trainer: Trainer):
    pulse = trainer.root / "pulse"
    assert probe(trainer, worker_pulse=str(pulse)).returncode == 1
    pulse.touch()
    assert probe(trainer, worker_pulse=str(pulse)).returncode == 0


def test_probe_without_a_pulse_to_look_at_names_the_setting(trainer: Trainer):
    told = probe(trainer)
    assert told.returncode == 1
    assert told.stderr.startswith("TRAINER_WORKER_PULSE: not set")

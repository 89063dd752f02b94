"""Every service heeds SIGTERM before it is far enough to end in order, also where nobody else would end it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Command

DEADLINE_S = 60.0
SERVICES = ("explainer", "lvlm", "trainer-api", "trainer-worker")


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, Command]:
    return {command.name: command for command in StackLayout.on_free_ports(tmp_path).commands()}


def heeds_sigterm(process: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM, by which the first one of a container is reached."""
    status = Path(f"/proc/{process}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_told_to_go_while_it_starts_goes(name, commands):
    command = commands[name]
    process = subprocess.Popen(
        list(command.arguments),
        env=os.environ | dict(command.environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + DEADLINE_S
        while not heeds_sigterm(process.pid):
            assert time.monotonic() < end
            time.sleep(0.001)
        process.terminate()
        _, told = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    # Nothing was served yet: then it would end in order, with 0.
    assert (process.returncode, told) == (128 + signal.SIGTERM, "")

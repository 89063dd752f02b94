"""Start, find and end a local stack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import psutil

from plumbline.stack.layout import SOURCE_ROOT, StackLayout
from plumbline.stack.processes import tail
from plumbline.stack.supervisor import READY_TIMEOUT_S

_STOP_TIMEOUT_S = 60.0
_POLL_S = 0.1


def find_stack(state: Path) -> StackLayout | None:
    """The stack that runs in `state`, if any."""
    content = _read(state)
    if content is None or not psutil.pid_exists(content["supervisor"]):
        return None
    values = {field.name: content[field.name] for field in fields(StackLayout)}
    return StackLayout(**values | {"state": Path(values["state"])})


def start_stack(state: Path, on_wait: Callable[[], None] = lambda: None) -> StackLayout:
    """Start a stack that outlives this process; returns when it serves. A running one is returned as it is."""
    running = find_stack(state)
    if running:
        return running
    supervisor = _launch(state, is_tied=False)
    return _wait_for_stack(state, supervisor, on_wait)


@contextmanager
def tied_stack(state: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[StackLayout]:
    """A stack that ends with this block, and with this process however it dies.

    Raises
    ------
    RuntimeError
        When a part does not start; its last log lines are in the message.
    """
    supervisor = _launch(state, is_tied=True)
    try:
        yield _wait_for_stack(state, supervisor, on_wait)
    finally:
        supervisor.stdin.close()
        supervisor.wait(_STOP_TIMEOUT_S)


def stop_stack(state: Path) -> bool:
    """End the stack in `state`; False when none runs."""
    content = _read(state)
    if content is None or not psutil.pid_exists(content["supervisor"]):
        return False
    supervisor = psutil.Process(content["supervisor"])
    os.kill(supervisor.pid, signal.SIGTERM)
    supervisor.wait(_STOP_TIMEOUT_S)
    return True


def _read(state: Path) -> dict | None:
    path = state / "stack.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _launch(state: Path, is_tied: bool) -> subprocess.Popen[bytes]:
    state.mkdir(parents=True, exist_ok=True)
    arguments = [sys.executable, "-m", "plumbline.stack.supervisor", "--state", str(state)]
    with (state / "supervisor.log").open("wb") as log:
        return subprocess.Popen(
            [*arguments, *(["--tied"] if is_tied else [])],
            stdin=subprocess.PIPE if is_tied else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=SOURCE_ROOT,
        )


def _wait_for_stack(state: Path, supervisor: subprocess.Popen[bytes], on_wait: Callable[[], None]) -> StackLayout:
    end = time.monotonic() + READY_TIMEOUT_S + 10
    while True:
        content = _read(state)
        if content and content["supervisor"] == supervisor.pid:
            layout = find_stack(state)
            if layout:
                return layout
        if supervisor.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"the stack did not start:\n{tail(state / 'supervisor.log')}")
        on_wait()
        time.sleep(_POLL_S)

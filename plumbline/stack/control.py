"""Start, find and end a local stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import psutil

from plumbline.stack.layout import SOURCE_ROOT, STATUS_FILE, StackLayout
from plumbline.stack.processes import read_start, tail
from plumbline.stack.supervisor import READY_TIMEOUT_S

_STOP_TIMEOUT_S = 120.0  # more than all children's patience together
_POLL_S = 0.1


def find_stack(state: Path) -> StackLayout | None:
    """The stack that serves in `state`, if any; `RuntimeError` when it is another version's."""
    content = _read(state)
    if content is None or not content["is_serving"] or _owner(content) is None:
        return None
    names = [field.name for field in fields(StackLayout)]
    if not set(names) <= set(content):
        raise RuntimeError(
            f"the stack in {state} is another version's; end it with `plumbline down` and start it again"
        )
    values = {name: content[name] for name in names}
    return StackLayout(**values | {"state": Path(values["state"])})


def start_stack(state: Path, on_wait: Callable[[], None] = lambda: None) -> StackLayout:
    """Start a stack that outlives this process; returns when it serves. A running one is returned as it is, one that is just starting is waited for.

    Raises
    ------
    RuntimeError
        When a part does not start; its last log lines are in the message, and nothing is left running.
    """
    running = find_stack(state)
    if running:
        return running
    starting = find_supervisor(state)
    if starting:
        return _wait_for_stack(state, starting.pid, lambda: find_supervisor(state) is None, on_wait)
    supervisor = _launch(state, is_tied=False)
    try:
        return _wait_for_stack(state, supervisor.pid, lambda: supervisor.poll() is not None, on_wait)
    except BaseException:
        supervisor.terminate()
        supervisor.wait(_STOP_TIMEOUT_S)
        raise


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
        yield _wait_for_stack(state, supervisor.pid, lambda: supervisor.poll() is not None, on_wait)
    finally:
        supervisor.stdin.close()
        supervisor.wait(_STOP_TIMEOUT_S)


def stop_stack(state: Path) -> bool:
    """End the stack in `state`, also one that is just starting; False when none runs."""
    supervisor = find_supervisor(state)
    if supervisor is None:
        return False
    supervisor.terminate()
    try:
        supervisor.wait(_STOP_TIMEOUT_S)
    except psutil.TimeoutExpired as error:
        raise RuntimeError(f"the stack in {state} did not end in {_STOP_TIMEOUT_S:.0f} s") from error
    return True


def find_supervisor(state: Path) -> psutil.Process | None:
    """The process that owns the stack in `state`. A file that a lost supervisor left does not name a stranger with its pid."""
    content = _read(state)
    return None if content is None else _owner(content)


def _owner(content: dict) -> psutil.Process | None:
    try:
        process = psutil.Process(content["supervisor"])
        # The second is what earlier versions wrote: it changes when the machine's clock is set.
        is_same = content["supervisor_started_at"] in (read_start(process.pid), process.create_time())
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _read(state: Path) -> dict | None:
    """What the supervisor told of itself; None when it told nothing that can be read."""
    try:
        content = json.loads((state / STATUS_FILE).read_text())
    except (OSError, ValueError):
        return None
    return content if {"supervisor", "supervisor_started_at", "is_serving"} <= set(content) else None


def _launch(state: Path, is_tied: bool) -> subprocess.Popen[bytes]:
    state.mkdir(parents=True, exist_ok=True)
    # -P: a folder `services` or `plumbline` where the user happens to stand is not ours.
    arguments = [sys.executable, "-P", "-m", "plumbline.stack.supervisor", "--state", str(state.resolve())]
    # What another supervisor tells is not ours to erase.
    with (state / "supervisor.log").open("ab" if find_supervisor(state) else "wb") as log:
        return subprocess.Popen(
            [*arguments, *(["--tied"] if is_tied else [])],
            stdin=subprocess.PIPE if is_tied else subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(SOURCE_ROOT)},
        )


def _wait_for_stack(
    state: Path, supervisor: int, has_ended: Callable[[], bool], on_wait: Callable[[], None]
) -> StackLayout:
    end = time.monotonic() + READY_TIMEOUT_S + 10
    while True:
        owner = find_supervisor(state)
        layout = find_stack(state) if owner and owner.pid == supervisor else None
        if layout:
            return layout
        if has_ended() or time.monotonic() > end:
            raise RuntimeError(f"the stack did not start:\n{tail(state / 'supervisor.log')}")
        on_wait()
        time.sleep(_POLL_S)

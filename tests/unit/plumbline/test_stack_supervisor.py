"""The supervisor starts a process again that ended, and gives up on one that can't be started."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from plumbline.stack import supervisor as supervisor_module
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Command
from plumbline.stack.supervisor import MAX_QUICK_ENDS, Supervisor
from tests.support.waiting import wait_for


class OneProcess(StackLayout):
    """A stack of one process that runs `program`."""

    program = ""

    def commands(self) -> list[Command]:
        return [Command("one", [sys.executable, "-c", self.program])]


def _start(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Supervisor, threading.Thread, list]:
    monkeypatch.setattr(OneProcess, "program", program)
    monkeypatch.setattr(Supervisor, "_wait_ready", lambda self: None)  # it serves no gRPC
    supervisor, raised = Supervisor(OneProcess.on_free_ports(tmp_path)), []

    def run() -> None:
        try:
            supervisor.run()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return supervisor, thread, raised


def _pids(tmp_path: Path) -> list[int]:
    file = tmp_path / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def test_a_process_may_end_any_number_of_times_when_it_had_run_for_a_while(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "STEADY_S", 0.0)
    note = f"import os, time; print(os.getpid(), file=open({str(tmp_path / 'pids')!r}, 'a')); time.sleep(60)"
    supervisor, thread, raised = _start(tmp_path, note, monkeypatch)
    for count in range(1, MAX_QUICK_ENDS + 3):
        pid = wait_for(lambda count=count: (_pids(tmp_path) + [0] * count)[count - 1], 20)
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: len(_pids(tmp_path)) == MAX_QUICK_ENDS + 3, 20)
    supervisor.request_stop()
    thread.join(20)
    assert raised == []


def test_a_process_that_falls_over_at_once_again_and_again_ends_the_stack(tmp_path: Path, monkeypatch):
    started_at = time.monotonic()
    _, thread, raised = _start(tmp_path, "raise SystemExit(3)", monkeypatch)
    thread.join(60)
    (error,) = raised
    assert "one ended" in str(error)
    assert time.monotonic() - started_at < 60
    assert not (tmp_path / "stack.json").exists()

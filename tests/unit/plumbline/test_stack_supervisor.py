"""The supervisor starts a process again that ended, and gives up on one that can't be started."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from plumbline.stack import supervisor as supervisor_module
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Command, tail
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
        except (RuntimeError, OSError) as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return supervisor, thread, raised


def _pids(tmp_path: Path) -> list[int]:
    file = tmp_path / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def read_status(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "stack.json").read_text())


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


def test_a_full_disk_ends_no_stack_when_a_process_has_to_be_started_again(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(supervisor_module, "STEADY_S", 0.0)
    note = f"import os, time; print(os.getpid(), file=open({str(tmp_path / 'pids')!r}, 'a')); time.sleep(60)"
    supervisor, thread, raised = _start(tmp_path, note, monkeypatch)
    first = wait_for(lambda: _pids(tmp_path), 20)[0]
    wait_for(lambda: read_status(tmp_path)["is_serving"], 20)
    aside = tmp_path / "stack.partial.json"
    aside.symlink_to("/dev/full")
    os.kill(first, signal.SIGKILL)
    second = wait_for(lambda: _pids(tmp_path)[1:], 20)[0]
    time.sleep(0.5)
    assert (raised, thread.is_alive()) == ([], True)
    aside.unlink()
    wait_for(lambda: read_status(tmp_path)["pids"] == {"one": second}, 20)
    supervisor.request_stop()
    thread.join(20)


def test_a_process_that_can_not_be_started_leaves_none_of_those_before_it(tmp_path: Path, monkeypatch):
    class Two(StackLayout):
        def commands(self) -> list[Command]:
            return [
                Command("one", [sys.executable, "-c", "import time; time.sleep(60)"]),
                Command("two", [str(tmp_path)]),
            ]

    with pytest.raises(PermissionError):
        Supervisor(Two.on_free_ports(tmp_path)).run()
    assert [child for child in psutil.Process().children() if "time.sleep(60)" in " ".join(child.cmdline())] == []


def test_certificates_that_can_not_be_used_end_the_start_in_one_line(tmp_path: Path, monkeypatch, caplog):
    monkeypatch.setattr(OneProcess, "program", "import time; time.sleep(60)")
    monkeypatch.setenv("PLUMBLINE_CERTIFICATE", str(tmp_path / "tls.crt"))
    monkeypatch.setattr(supervisor_module.StackLayout, "on_free_ports", OneProcess.on_free_ports)
    monkeypatch.setattr(sys, "argv", ["supervisor", "--state", str(tmp_path)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with pytest.raises(SystemExit) as left:
            supervisor_module.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert left.value.code == 1
    assert "PLUMBLINE_KEY: not set" in caplog.text


def test_the_end_of_a_log_is_told_without_reading_all_of_it(tmp_path: Path):
    log = tmp_path / "one.log"
    with log.open("wb") as file:
        file.truncate(2**40)
        file.seek(0, os.SEEK_END)
        file.write(b"\nfirst\nlast\n")
    assert tail(log, 2) == "first\nlast"

"""The process that owns the local stack: starts it, keeps it up, ends it whole.

Run by `plumbline up` (detached) and by tests and the demo (tied: it ends when its standard input closes, so nothing is left
behind even when the parent is killed). One supervisor per state folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import filelock

from plumbline.certificates import CertificateFiles
from plumbline.fresh_files import UnusableFile
from plumbline.health import is_serving
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Child, read_start, start, stop, tail

READY_TIMEOUT_S = 120.0
MAX_QUICK_ENDS = 5
STEADY_S = 10.0
"""A process that lived so long was no bad start: only those that fall over again and again end the stack."""
_POLL_S = 0.2
_EXPECTED = (RuntimeError, OSError, UnusableFile)
"""What ends a stack in one line; a bug keeps its stack."""

log = logging.getLogger("plumbline.stack")


class Supervisor:
    """Holds the children of one stack."""

    def __init__(self, layout: StackLayout) -> None:
        self._layout = layout
        self._children: list[Child] = []
        self._is_serving = False
        self._is_told = False
        self._stop = threading.Event()

    def request_stop(self) -> None:
        """End the stack soon; may be called from any thread or a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Start everything, tell in stack.json how it stands, keep children up until a stop is asked for."""
        try:
            self._publish()
            for command in self._layout.commands():
                self._children.append(start(command, self._layout.logs))
            self._wait_ready()
            self._is_serving = not self._stop.is_set()
            self._publish()
            while not self._stop.wait(_POLL_S):
                self._revive()
        except _EXPECTED as error:
            # Before the children are ended, which takes a while: whoever waits for us reads the log.
            log.error("%s", error)
            raise
        finally:
            # A disk may have become read-only; the file names nobody once we have ended.
            with contextlib.suppress(OSError):
                self._layout.status_file.unlink(missing_ok=True)
            stop(self._children)

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        certificates = CertificateFiles.from_environment("PLUMBLINE_")
        for address in (self._layout.explainer, self._layout.lvlm, self._layout.trainer):
            while not self._stop.is_set() and not is_serving(address, certificates):
                self._fail_on_exit()
                if time.monotonic() > end:
                    raise RuntimeError(f"{address} was not ready in {READY_TIMEOUT_S:.0f} s; see {self._layout.logs}")
                self._stop.wait(_POLL_S)

    def _fail_on_exit(self) -> None:
        for child in self._children:
            if child.process.poll() is not None:
                name = child.command.name
                raise RuntimeError(f"{name} ended at start:\n{tail(self._layout.logs / f'{name}.log')}")

    def _revive(self) -> None:
        for index, child in enumerate(self._children):
            if child.process.poll() is None:
                continue
            log.warning("%s ended with %s", child.command.name, child.process.returncode)
            is_quick = time.monotonic() - child.started_at < STEADY_S
            quick_end_count = child.quick_end_count + 1 if is_quick else 0
            if quick_end_count >= MAX_QUICK_ENDS:
                raise RuntimeError(
                    f"{child.command.name} ended {MAX_QUICK_ENDS} times within {STEADY_S:.0f} s of its start; see {self._layout.logs}"
                )
            stop([child])
            self._children[index] = start(child.command, self._layout.logs)
            self._children[index].quick_end_count = quick_end_count
            self._is_told = False
        if not self._is_told:
            # On a full disk what runs goes on, and is told of when there is room.
            with contextlib.suppress(OSError):
                self._publish()

    def _publish(self) -> None:
        pids = {child.command.name: child.process.pid for child in self._children}
        content = {key: str(value) for key, value in asdict(self._layout).items()} | {
            "supervisor": os.getpid(),
            "supervisor_started_at": read_start(os.getpid()),
            "is_serving": self._is_serving,
            "pids": pids,
        }
        aside = self._layout.state / "stack.partial.json"
        aside.write_text(json.dumps(content, indent=1))
        aside.replace(self._layout.status_file)
        self._is_told = True


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--tied", action="store_true", help="end when standard input closes")
    arguments = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
    arguments.state.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(arguments.state / "supervisor.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        sys.exit(
            f"another stack holds {arguments.state}: end it with `plumbline down`, or wait if it is just starting or ending"
        )
    supervisor = Supervisor(StackLayout.on_free_ports(arguments.state))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.request_stop())
    if arguments.tied:
        threading.Thread(target=_wait_for_end_of_input, args=(supervisor,), daemon=True).start()
    try:
        supervisor.run()
    except _EXPECTED:
        sys.exit(1)


def _wait_for_end_of_input(supervisor: Supervisor) -> None:
    sys.stdin.buffer.read()
    supervisor.request_stop()


if __name__ == "__main__":
    main()

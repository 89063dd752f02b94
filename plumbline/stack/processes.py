"""Child processes of the local stack: started apart, logged to a file, ended together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")


@dataclass(frozen=True)
class Command:
    """What to run: `environment` is added to the few variables that every process inherits."""

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_s: float = 15.0


@dataclass
class Child:
    """A running command."""

    command: Command
    process: subprocess.Popen[bytes]
    started_at: float = field(default_factory=time.monotonic)
    quick_end_count: int = 0
    """Ends one after the other, each soon after its start."""


def start(command: Command, log_folder: Path) -> Child:
    """Start `command` in a session of its own, its output appended to `<log_folder>/<name>.log`.

    The kernel kills it when this process dies, whatever way that happens.
    """
    log_folder.mkdir(parents=True, exist_ok=True)
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    with (log_folder / f"{command.name}.log").open("ab") as log:
        process = subprocess.Popen(
            list(command.arguments),
            env=environment | dict(command.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    return Child(command, process)


def stop(children: Sequence[Child]) -> None:
    """End `children`, last started first: SIGTERM, and SIGKILL to the whole session after the command's patience."""
    for child in reversed(children):
        if child.process.poll() is None:
            child.process.terminate()
        end = time.monotonic() + child.command.stop_s
        while child.process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        _kill_session(child.process.pid)
        child.process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tail(log: Path, line_count: int = 15) -> str:
    """The last lines of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    return "\n".join(lines[-line_count:])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_session(session: int) -> None:
    # Also after a clean exit: a child's own children (Triton's stubs, a training process) must not outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)

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
_START_TICKS = 19
"""Place in /proc/<pid>/stat of when a process began, counted after the name, which may hold anything."""
_TAIL_BYTES = 64 * 2**10
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "CUDA_VISIBLE_DEVICES")
"""The last: whoever shares a machine's GPUs with others says so which are theirs."""


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
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, none of them twice."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def tail(log: Path, line_count: int = 15) -> str:
    """The last lines of a log, which may have grown for years: no more of it is read than they may take."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).decode(errors="replace").splitlines()
    return "\n".join(lines[-line_count:])


def read_start(pid: int) -> int | None:
    """When a process began, in ticks since the machine did, which no setting of the clock changes; None when there is none with this pid."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return int(content.rpartition(")")[2].split()[_START_TICKS])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_session(session: int) -> None:
    # Also after a clean exit: a child's own children (Triton's stubs, a training process) must not outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)

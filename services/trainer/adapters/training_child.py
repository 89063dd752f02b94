"""The `TrainingRun` port on a child process: fork, gRPC and CUDA don't mix, and a crash must not take the worker along."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from services.common.runtime.errors import DeadlineExceeded, Unavailable, WrongState
from services.trainer.domain.job import Job
from services.trainer.ports import Progress, RunKilled, WorkerStopping

_POLL_S = 1.0
_EXIT_S = 30.0
"""How long a child that is told to go may take for its step and its checkpoint, seconds."""


class TrainingChild:
    """Runs `python -m services.trainer.training_process`, or `training_group` for several processes; they report as JSON lines.

    Children are told to end once `stopping` is set, for the worker is told to go then; they write a checkpoint from which another goes on.
    """

    def __init__(
        self,
        store_root: str,
        data_root: Path,
        threads: int,
        timeout_s: float,
        checkpoint_interval_s: float,
        stopping: threading.Event,
        process_count: int = 1,
        device: str = "cpu",
    ) -> None:
        module = "training_process" if process_count == 1 else "training_group"
        self._command = [sys.executable, "-m", f"services.trainer.{module}"]
        if process_count > 1:
            self._command += ["--processes", str(process_count)]
        self._command += ["--store", store_root, "--data", str(data_root), "--threads", str(threads)]
        self._command += ["--device", device]
        self._command += ["--checkpoint-interval-s", str(checkpoint_interval_s), "--parent", str(os.getpid())]
        self._timeout_s = timeout_s
        self._stopping = stopping

    def __call__(
        self,
        job: Job,
        on_progress: Callable[[Progress], None],
        is_wanted: Callable[[], bool],
        on_numbers: Callable[[int, Mapping[str, float]], None],
    ) -> dict[str, Any] | None:
        """See the port.

        Raises
        ------
        WrongState
            When the child found that the job can't be trained.
        DeadlineExceeded
            When it took longer than the setting allows.
        Unavailable
            When the child can't use the store: it is worth another try.
        RunKilled
            When the child died of a signal, or says no more and does not end.
        WorkerStopping
            When this worker is told to go, or the child was.
        RuntimeError
            When the child fell over a bug; its stack is in this process's standard error.
        """
        # What a child that is killed has fetched from a bucket would else stay on this machine.
        with tempfile.TemporaryDirectory(prefix="plumbline-", ignore_cleanup_errors=True) as temporary:
            child = subprocess.Popen(
                [*self._command, "--job", job.job_id],
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",  # a library's chatter may be anything
                env=os.environ | {"TMPDIR": temporary},
            )
            lines: queue.Queue[str | None] = queue.Queue()
            reader = threading.Thread(target=_read_lines, args=(child.stdout, lines), daemon=True)
            reader.start()
            try:
                return self._follow(child, lines, on_progress, is_wanted, on_numbers)
            finally:
                child.kill()  # no effect on a child that has ended
                child.wait()
                # A group's processes are killed by the system a moment after the child; the output ends with the last of them.
                reader.join(_EXIT_S)

    def _follow(
        self,
        child: subprocess.Popen[str],
        lines: queue.Queue[str | None],
        on_progress: Callable[[Progress], None],
        is_wanted: Callable[[], bool],
        on_numbers: Callable[[int, Mapping[str, float]], None],
    ) -> dict[str, Any] | None:
        end, last_line = time.monotonic() + self._timeout_s, "no report"
        is_told = False
        while True:
            if self._stopping.is_set() and not is_told:
                child.terminate()
                is_told, end = True, time.monotonic() + _EXIT_S
            if time.monotonic() > end:
                raise (
                    WorkerStopping("the worker is told to go, and its training was too long at a step")
                    if is_told
                    else DeadlineExceeded(f"training took longer than {self._timeout_s:.0f} s")
                )
            if not is_wanted():
                return None
            try:
                line = _next_report(lines, on_numbers)
            except queue.Empty:
                continue
            if line is None:
                raise _explain_end(child, last_line)
            last_line = line
            if not line.startswith("{"):
                continue  # some library's chatter
            message = json.loads(line)
            if "stopped" in message:
                raise WorkerStopping(message["stopped"])
            if "metrics" in message:
                return message["metrics"]
            if "error" in message:
                raise WrongState(message["error"])
            if "unavailable" in message:
                raise Unavailable(message["unavailable"])
            if "bug" in message:
                raise RuntimeError(f"the training process fell over {message['bug']}; its stack stands before this one")
            on_progress(Progress(**message["progress"]))


def _next_report(lines: queue.Queue[str | None], on_numbers: Callable[[int, Mapping[str, float]], None]) -> str | None:
    """The next line that tells no numbers, for there are hundreds of those. Raises `queue.Empty` when none comes for a while."""
    end = time.monotonic() + _POLL_S
    while True:
        line = lines.get(timeout=max(0.0, end - time.monotonic()))
        if line is None or not line.startswith('{"numbers"'):
            return line
        on_numbers(**json.loads(line)["numbers"])


def _explain_end(child: subprocess.Popen[str], last_line: str) -> Exception:
    """What a child that says no more and gave no result comes to: told to go, killed, which may not happen again, or a bug."""
    try:
        status = child.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        return RunKilled(f"training closed its output and did not end, after: {last_line[:200]}")
    told = f"training ended with status {status} after: {last_line[:200]}"
    if status == -signal.SIGTERM:  # before it could write a checkpoint
        return WorkerStopping(told)
    return RunKilled(told) if status < 0 else RuntimeError(told)


def _read_lines(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with stream:
        for line in stream:
            if line.strip():
                lines.put(line.strip())
    lines.put(None)

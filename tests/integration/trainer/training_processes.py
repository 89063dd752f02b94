"""Training processes below a worker, as its operating system sees them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def find_trainings(parent: int, module: str = "training_process") -> set[int]:
    """Ids of the training processes that `parent` has, or of the `training_group` ones that have those."""
    found = set()
    for task in Path(f"/proc/{parent}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):  # it ends at this moment
                if f"services.trainer.{module}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    found.add(int(pid))
    return found


def signal_training(parent: int, number: signal.Signals) -> set[int]:
    """Send a signal to every training process that `parent` has; returns their ids."""
    found = find_trainings(parent)
    for pid in found:
        with contextlib.suppress(OSError):
            os.kill(pid, number)
    return found


def is_running(pid: int) -> bool:
    """Whether the process has not ended; one whose end nobody has asked for is a zombie, and has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"

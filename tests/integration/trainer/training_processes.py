"""Training processes below a worker, as its operating system sees them."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def signal_training(parent: int, number: signal.Signals) -> set[int]:
    """Send a signal to every training process that `parent` has; returns their ids."""
    found = set()
    for task in Path(f"/proc/{parent}/task").iterdir():
        for pid in (task / "children").read_text().split():
            with contextlib.suppress(OSError):  # it ends at this moment
                if b"services.trainer.training_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(int(pid), number)
                    found.add(int(pid))
    return found

"""Find the training processes of workers, and whose job each has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import psutil

_MODULE, _JOB = "services.trainer.training_process", "--job"


def find_trainings(worker_pids: Iterable[int]) -> Iterator[tuple[str, psutil.Process]]:
    """Job id and process of every training that a worker runs now."""
    for pid in worker_pids:
        try:
            for child in psutil.Process(pid).children():
                command = child.cmdline()
                if _MODULE in command and _JOB in command:
                    yield command[command.index(_JOB) + 1], child
        except psutil.NoSuchProcess:
            continue

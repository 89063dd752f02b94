"""The `TrainingRun` port on a child process: fork, gRPC and CUDA don't mix, and a crash must not take the worker along."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.common.runtime.errors import Unavailable, WrongState
from services.trainer.domain.job import Job
from services.trainer.ports import Progress


class TrainingChild:
    """Runs `python -m services.trainer.training_process`; it reports as JSON lines."""

    def __init__(self, store_root: Path, data_root: Path, threads: int) -> None:
        self._arguments = ["--store", str(store_root), "--data", str(data_root), "--threads", str(threads)]

    def __call__(self, job: Job, on_progress: Callable[[Progress], bool]) -> dict[str, Any]:
        """See the port.

        Raises
        ------
        WrongState
            When `on_progress` said to stop, or the child found that the job can't be trained.
        Unavailable
            When the child died: it may have been killed, so it is worth another try.
        """
        command = [sys.executable, "-m", "services.trainer.training_process", *self._arguments, "--job", job.job_id]
        result, last_line = None, ""
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            try:
                for line in child.stdout:
                    last_line = line.strip() or last_line
                    message = json.loads(line)
                    if "metrics" in message:
                        result = message["metrics"]
                    elif "error" in message:
                        raise WrongState(message["error"])
                    elif not on_progress(Progress(**message["progress"])):
                        raise WrongState("the job ended while it was trained")
            finally:
                child.kill() if result is None else child.wait()
        if result is None:
            raise Unavailable(f"training ended with status {child.returncode} after: {last_line[:200] or 'no report'}")
        return result

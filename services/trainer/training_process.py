"""Training as a process of its own, around `job_training`.

Run by the worker: python -m services.trainer.training_process --store ROOT --data DIR --job ID. Prints JSON lines: `progress` and `numbers`
for curves while it works, then `metrics`; or `error` when the input does not allow it, `unavailable` when another try may do better, `bug` with the stack on
standard error. It writes checkpoints and goes on from the job's newest; on SIGTERM it ends after its step with a checkpoint and prints `stopped`.
When its worker dies it ends so as well, for another worker will take the job. Under torch's launcher (`training_group`, or torchrun) it is one of a team.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import distributed

from services.common.runtime.errors import ServiceError, Unavailable
from services.common.runtime.logging import set_up_logging
from services.common.runtime.open_store import open_store
from services.common.runtime.parent import when_parent_ends
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.process_group import join_group
from services.trainer.domain.team import ALONE, Team, TeamLost
from services.trainer.job_training import CHECKPOINT_INTERVAL_S, Conditions, ToldToStop, train_job

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Train one job and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--checkpoint-interval-s", type=float, default=CHECKPOINT_INTERVAL_S)
    # The worker gives it, for one that dies while this process starts would not be noticed from here.
    parser.add_argument("--parent", type=int, default=os.getppid())
    arguments = parser.parse_args()
    set_up_logging()
    stopping = threading.Event()
    when_parent_ends(arguments.parent, stopping.set)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.utils.logging.disable_progress_bar()
    try:
        _set_up_gpu(arguments.device)
        with _join_team(arguments.parent, arguments.device) as team:
            # Not before: whoever waits for a team that does not come has nothing to keep.
            signal.signal(signal.SIGTERM, lambda *_: stopping.set())
            _train_and_tell(arguments, stopping, team)
    except Unavailable as error:
        _print({"unavailable": error.message})
    except TeamLost as error:
        # Whose fault it was is not known here: the launcher sees who died, and starts all anew.
        log.warning("team lost", extra={"job_id": arguments.job, "cause": str(error)})
        sys.exit(1)


def _set_up_gpu(device: str) -> None:
    """Let a GPU compute as the CPU does, and the same for the same inputs, as far as it can. Raises: Unavailable without one for this process."""
    if device == "cuda":
        found, number = torch.cuda.device_count(), distributed.get_node_local_rank(fallback_rank=0)
        if number >= found:
            raise Unavailable(f"TRAINER_TRAINING_DEVICE: expected a GPU for each training process, found {found}")
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def _join_team(launcher: int, device: str) -> Iterator[Team]:
    """The team that the process `launcher` has started this one for, or a team of one. Raises: TeamLost."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    # The launcher gives each process a session of its own, so what ends the launcher's does not reach it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        raise TeamLost("the launcher died while this process started")
    with join_group(device) as team:
        yield team


def _train_and_tell(arguments: argparse.Namespace, stopping: threading.Event, team: Team) -> None:
    """Train, and print how it ended: the leading process what all come to, every process what it falls over. Raises: TeamLost."""
    try:
        store, datasets = open_store(arguments.store), DatasetFolder(arguments.data)
        conditions = Conditions(
            stopping, arguments.checkpoint_interval_s, team, arguments.device, _print_progress, _print_numbers
        )
        metrics = train_job(store, datasets, arguments.job, conditions)
        if team.leads:
            _print({"metrics": metrics})
    except ToldToStop:
        if team.leads:
            _print({"stopped": "training goes on from its checkpoint"})
    except TeamLost:
        raise
    except Unavailable as error:
        _print({"unavailable": error.message})
    except ServiceError as error:
        _print({"error": error.message})
    except OSError as error:
        _print({"unavailable": f"training can't read or write a file: {error.strerror}"})
    except Exception as error:  # a bug: the worker ends the job, and the stack goes to its log
        traceback.print_exc()
        _print({"bug": type(error).__name__})


def _print_progress(done: int, total: int, loss: float) -> None:
    _print({"progress": {"done": done, "total": total, "unit": "batch", "loss": loss}})


def _print_numbers(step: int, numbers: Mapping[str, float]) -> None:
    _print({"numbers": {"step": step, "numbers": numbers}})


def _print(message: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The worker has died. `when_parent_ends` ends this process in order; until then nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

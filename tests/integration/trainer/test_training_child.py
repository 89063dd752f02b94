"""The training process as the worker sees it: how each of its ends is told."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.runtime.errors import DeadlineExceeded, Unavailable, WrongState
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.adapters.training_child import TrainingChild
from services.trainer.domain.job import Job
from services.trainer.ports import RunKilled, WorkerStopping
from tests.integration.trainer.training_processes import signal_training
from tests.unit.trainer.made_up import make_request


class _Stage:
    def __init__(self, root: Path, timeout_s: float = 120.0) -> None:
        self.root, self.stopping = root, threading.Event()
        self.child = TrainingChild(str(root / "store"), root / "data", 1, timeout_s, 60.0, self.stopping)
        self.job: Job = JobRecord(FolderStore(root / "store")).file(make_request())

    def run(self, on_asked: Callable[[], bool] = lambda: True) -> object:
        return self.child(self.job, lambda progress: None, on_asked, lambda step, numbers: None)


def test_a_job_that_can_not_be_trained_is_told_so_in_the_childs_words(tmp_path: Path):
    stage = _Stage(tmp_path)
    (tmp_path / "store" / "jobs" / stage.job.job_id / "events" / "000000.json").unlink()
    with pytest.raises(WrongState, match="there is no job"):
        stage.run()


def test_a_bug_of_the_child_is_a_bug_of_the_worker_with_its_stack_in_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    stage = _Stage(tmp_path)
    (tmp_path / "store" / "jobs" / stage.job.job_id / "request.json").write_bytes(b"{")
    with pytest.raises(RuntimeError, match="fell over ValidationError"):
        stage.run()
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(("signal_number", "end"), [(signal.SIGKILL, RunKilled), (signal.SIGTERM, WorkerStopping)])
def test_a_child_that_dies_of_a_signal_is_worth_another_try(
    tmp_path: Path, signal_number: signal.Signals, end: type[Unavailable]
):
    def kill() -> bool:
        signal_training(os.getpid(), signal_number)
        return True

    with pytest.raises(end, match=f"status -{signal_number.value}"):
        _Stage(tmp_path).run(kill)


def test_a_worker_that_is_told_to_go_leaves_no_child_behind(tmp_path: Path):
    stage = _Stage(tmp_path)
    stage.stopping.set()
    with pytest.raises(WorkerStopping):
        stage.run()


def test_a_training_that_takes_too_long_is_no_neighbours_fault(tmp_path: Path):
    with pytest.raises(DeadlineExceeded):
        _Stage(tmp_path, timeout_s=0.0).run()


def test_a_run_that_is_not_wanted_any_more_gives_nothing(tmp_path: Path):
    assert _Stage(tmp_path).run(lambda: False) is None

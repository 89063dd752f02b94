"""A real training process that is killed or told to go in its middle, and the one that goes on from there: to the same bundle, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.runtime.queues import JOBS_QUEUE, TRAIN_TASK
from services.trainer.adapters.celery_queue import build_app
from services.trainer.adapters.job_record import checkpoints_path
from services.trainer.domain.job import JobState
from services.trainer.ports import RunKilled, WorkerStopping
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.training_processes import signal_training
from tests.integration.trainer.training_stage import NEVER_S, OFTEN_S, TRAINED_S, Stage
from tests.support.waiting import wait_for


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Trainer(tmp_path, broker_url="", listen=""))


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the bundle of a training that nothing happens to goes: its digest."""
    stage = Stage(Trainer(tmp_path_factory.mktemp("whole"), broker_url="", listen=""))
    metrics = stage.run(NEVER_S)
    assert stage.checkpoints == []
    return metrics["bundle_path"]


def test_a_training_that_was_killed_goes_on_from_its_checkpoint_to_the_same_bundle(stage: Stage, bundle_path: str):
    def kill_once_there_is_a_checkpoint() -> None:
        if stage.checkpoints:
            signal_training(os.getpid(), signal.SIGKILL)

    with pytest.raises(RunKilled):
        stage.run(OFTEN_S, kill_once_there_is_a_checkpoint)
    from_step = int(stage.checkpoints[-1].partition(".")[0])
    assert from_step > 0
    assert stage.run(OFTEN_S)["bundle_path"] == bundle_path
    assert stage.shown[0].done > from_step
    assert len(stage.checkpoints) <= 2


def test_a_training_that_is_told_to_go_writes_a_checkpoint_at_once_and_another_ends_it_alike(
    stage: Stage, bundle_path: str
):
    def stop_once_it_trains() -> None:
        if stage.shown:
            stage.stopping.set()

    with pytest.raises(WorkerStopping, match="goes on from its checkpoint"):
        stage.run(NEVER_S, stop_once_it_trains)
    (checkpoint,) = stage.checkpoints
    assert int(checkpoint.partition(".")[0]) >= stage.shown[-1].done
    stage.stopping.clear()
    assert stage.run(NEVER_S)["bundle_path"] == bundle_path


def test_a_training_whose_worker_died_while_it_started_ends_with_a_checkpoint_at_its_first_step(stage: Stage):
    root, nobody = stage.trainer.root, "0"
    command = [sys.executable, "-m", "services.trainer.training_process", "--parent", nobody]
    command += ["--store", str(root / "store"), "--data", str(root / "data"), "--job", stage.job.job_id]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TRAINED_S)
    assert (ended.returncode, json.loads(ended.stdout.splitlines()[-1]).keys()) == (0, {"stopped"})
    assert stage.checkpoints == ["000000000.safetensors"]


def test_a_checkpoint_that_can_not_be_read_costs_time_but_not_the_job(
    stage: Stage, bundle_path: str, capfd: pytest.CaptureFixture[str]
):
    folder = stage.trainer.root / "store" / checkpoints_path(stage.job.job_id)
    folder.mkdir()
    (folder / "000000500.safetensors").write_bytes(b"torn")
    assert stage.run(NEVER_S)["bundle_path"] == bundle_path
    assert "checkpoint refused" in capfd.readouterr().err


def test_a_job_whose_training_is_killed_three_times_ends_failed(trainer: Trainer):
    worker = trainer.start("worker")
    stage = Stage(trainer)
    job_id = stage.job.job_id
    trainer.record.advance(trainer.record.load(job_id), JobState.TRAINING)
    build_app(trainer.broker).send_task(TRAIN_TASK, kwargs={"job_id": job_id}, queue=JOBS_QUEUE, ignore_result=True)
    killed: set[int] = set()

    def kill_until_it_ends() -> bool:
        killed.update(signal_training(worker.process.pid, signal.SIGKILL))
        return trainer.record.load(job_id).state.is_final

    wait_for(kill_until_it_ends, TRAINED_S)
    last = trainer.record.load(job_id).events[-1]
    assert (last.state, len(killed)) == (JobState.FAILED, 3)
    assert "lost 3 times at the train step" in last.reason
    assert "status -9" in last.reason

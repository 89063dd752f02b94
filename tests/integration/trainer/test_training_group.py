"""A job's training in several real processes: what one comes to, whichever of them dies, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.common.vision.model_bundle import WEIGHTS
from services.trainer.ports import WorkerStopping
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.training_processes import find_trainings, is_running
from tests.integration.trainer.training_stage import NEVER_S, OFTEN_S, TRAINED_S, Stage
from tests.support.waiting import wait_for

TOLERANCE = 2e-6
"""Of a weight, as in test_team. Measured after a job's 1,300 steps: 1.2e-7."""
ENDED_S = 15.0


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Trainer(tmp_path, broker_url="", listen=""))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a training in two processes that nothing happens to."""
    stage = Stage(Trainer(tmp_path_factory.mktemp("whole"), broker_url="", listen=""))
    return stage.trainer.root / "store" / stage.run(NEVER_S, process_count=2)["bundle_path"]


def _find_team() -> set[int]:
    return {pid for group in find_trainings(os.getpid(), "training_group") for pid in find_trainings(group)}


def test_when_one_process_dies_all_start_again_from_the_checkpoint_and_come_to_the_same_bundle(
    stage: Stage, bundle: Path
):
    seen: set[int] = set()
    killed_at: list[tuple[int, int]] = []

    def kill_one_half_way() -> None:
        team = _find_team()
        seen.update(team)
        from_step = int((stage.checkpoints or ["0."])[-1].partition(".")[0])
        if from_step >= 100 and not killed_at:
            killed_at.append((len(stage.shown), from_step))
            os.kill(max(team), signal.SIGKILL)

    metrics = stage.run(OFTEN_S, kill_one_half_way, process_count=2)
    assert Path(metrics["bundle_path"]).name == bundle.name
    ((shown_count, from_step),) = killed_at
    assert min(progress.done for progress in stage.shown[shown_count:]) > from_step
    assert len(seen) == 4


@pytest.mark.slow
def test_a_training_goes_on_in_another_number_of_processes_and_none_outlives_its_worker(stage: Stage, bundle: Path):
    def stop_once_it_trains() -> None:
        if stage.shown:
            stage.stopping.set()

    with pytest.raises(WorkerStopping, match="goes on from its checkpoint"):
        stage.run(NEVER_S, stop_once_it_trains)
    (of_one,) = stage.checkpoints

    team = _run_in_two_until_the_worker_dies(stage)
    assert len(team) == 2
    of_one_again, of_two = stage.checkpoints
    assert of_one_again == of_one
    assert not any(map(is_running, team))

    stage.stopping.clear()
    ended_by_one = stage.trainer.root / "store" / stage.run(NEVER_S)["bundle_path"]
    assert stage.shown[0].done > int(of_two.partition(".")[0])
    weights, expected = (load_file(folder / WEIGHTS) for folder in (ended_by_one, bundle))
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) < TOLERANCE


def _run_in_two_until_the_worker_dies(stage: Stage) -> set[int]:
    """Let a worker's place be held by a shell that is killed once there is progress; returns the training processes that there were."""
    root = stage.trainer.root
    command = [sys.executable, "-m", "services.trainer.training_group", "--processes", "2"]
    command += ["--store", str(root / "store"), "--data", str(root / "data"), "--job", stage.job.job_id]
    with subprocess.Popen(["sh", "-c", '"$@"; :', "sh", *command], stdout=subprocess.PIPE, text=True) as worker:
        for line in worker.stdout:
            if "progress" in line:
                break
        (group,) = find_trainings(worker.pid, "training_group")
        team = find_trainings(group)
        worker.kill()
        last = [line for line in worker.stdout if line.startswith("{")][-1]
    assert json.loads(last).keys() == {"stopped"}
    wait_for(lambda: not is_running(group), ENDED_S)
    return team


def test_a_training_that_is_not_wanted_any_more_leaves_no_process_behind(stage: Stage):
    team: set[int] = set()

    def leave_once_it_trains() -> bool:
        team.update(_find_team())
        return not stage.shown

    assert stage.run(NEVER_S, leave_once_it_trains, process_count=2) is None
    assert len(team) == 2
    wait_for(lambda: not any(map(is_running, team)), ENDED_S)


@pytest.mark.parametrize(
    ("statuses", "status"), [([-signal.SIGKILL, 1], -signal.SIGKILL), ([-signal.SIGTERM, 3, 1], 3)]
)
def test_a_training_of_several_processes_ends_like_the_one_that_died(statuses: list[int], status: int):
    script = f"from services.trainer.training_group import end_as; end_as({list(map(int, statuses))})"
    assert subprocess.run([sys.executable, "-c", script], timeout=TRAINED_S).returncode == status


def test_a_process_whose_launcher_died_while_it_started_does_not_wait_for_a_team(stage: Stage):
    root, nobody = stage.trainer.root, "0"
    command = [sys.executable, "-m", "services.trainer.training_process", "--parent", nobody]
    command += ["--store", str(root / "store"), "--data", str(root / "data"), "--job", stage.job.job_id]
    launched = os.environ | {"TORCHELASTIC_RUN_ID": "gone", "RANK": "0", "WORLD_SIZE": "2"}
    ended = subprocess.run(command, env=launched, capture_output=True, text=True, timeout=TRAINED_S)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the launcher died" in ended.stderr

"""A job's training on a GPU: the weights of the CPU but for rounding, the same ones again, and through NCCL."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from services.common.runtime.errors import Unavailable
from services.common.vision.model_bundle import WEIGHTS
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.training_stage import NEVER_S, TRAINED_S, Stage

TOLERANCE = 1e-3
"""Of a weight after a job's 1,300 steps, for another processor's rounding."""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(Trainer(tmp_path, broker_url="", listen=""))


def test_a_training_asks_for_another_try_where_it_finds_no_gpu(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(Unavailable, match="TRAINER_TRAINING_DEVICE: expected a GPU for each training process, found 0"):
        stage.run(NEVER_S, device="cuda")


@pytest.mark.gpu
def test_a_gpu_comes_to_the_weights_of_the_cpu_and_to_the_same_ones_again(stage: Stage):
    on_cpu, on_gpu, again = (stage.run(NEVER_S, device=device)["bundle_path"] for device in ("cpu", "cuda", "cuda"))
    assert on_gpu == again
    expected, weights = (load_file(stage.trainer.root / "store" / path / WEIGHTS) for path in (on_cpu, on_gpu))
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) < TOLERANCE


@pytest.mark.gpu
def test_a_team_over_nccl_comes_to_the_same_bundle(stage: Stage):
    root = stage.trainer.root
    command = [sys.executable, "-m", "services.trainer.training_group", "--processes", "1", "--device", "cuda"]
    command += ["--store", str(root / "store"), "--data", str(root / "data"), "--job", stage.job.job_id]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TRAINED_S, check=True)
    metrics = json.loads(ended.stdout.splitlines()[-1])["metrics"]
    assert metrics["bundle_path"] == stage.run(NEVER_S, device="cuda")["bundle_path"]

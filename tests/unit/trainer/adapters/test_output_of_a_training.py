"""What a training process leaves behind and how it may end badly. The processes are real, and scripts instead of trainings."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters import training_child
from services.trainer.adapters.job_record import JobRecord
from services.trainer.adapters.training_child import TrainingChild
from services.trainer.ports import Progress, RunKilled
from tests.unit.trainer.made_up import make_request

PROGRESS = """print('{"progress": {"done": 1, "total": 9, "unit": "batch", "loss": 0.5}}', flush=True)"""
FETCH = f"""
import pathlib, tempfile, time
with tempfile.TemporaryDirectory() as folder:  # as the store does around a training
    pathlib.Path(folder, "model.safetensors").write_bytes(bytes(1000))
    {PROGRESS}
    time.sleep(60)
"""
GROUP = f"""
import os, pathlib, sys, tempfile, time
if os.fork():
    time.sleep(60)
launcher = os.getppid()
folder = pathlib.Path(tempfile.mkdtemp())
{PROGRESS}
while os.getppid() == launcher:
    time.sleep(0.01)
time.sleep(0.5)  # its end takes a moment
folder.joinpath("late").touch()
pathlib.Path(sys.argv[0]).with_name("ended").touch()
"""
CHATTER = """
import os
os.write(1, bytes([255, 10]))
print('{"metrics": {"accuracy": 1.0}}')
"""
SILENCE = """
import os, time
os.close(1)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Runs a script in the place of a training, until it has shown progress; its temporary files lie below `tmp`."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    job = JobRecord(FolderStore(tmp_path / "store")).file(make_request())

    def run_script(script: str) -> object:
        program = tmp_path / "program"
        program.write_text(f"#!{sys.executable}\n{script}")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        child = TrainingChild(str(tmp_path / "store"), tmp_path, 1, 60.0, 60.0, threading.Event())
        shown: list[Progress] = []
        return child(job, shown.append, lambda: not shown, lambda step, numbers: None)

    return run_script


@pytest.mark.parametrize("script", [FETCH, GROUP])
def test_a_training_that_is_killed_leaves_no_files_behind(run: Callable[[str], object], tmp_path: Path, script: str):
    assert run(script) is None
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_run_ends_after_the_last_process_of_a_group(run: Callable[[str], object], tmp_path: Path):
    assert run(GROUP) is None
    assert (tmp_path / "ended").exists()


def test_chatter_that_is_no_text_does_not_cost_the_result(run: Callable[[str], object]):
    assert run(CHATTER) == {"accuracy": 1.0}


def test_a_training_that_says_no_more_and_does_not_end_is_worth_another_try(
    run: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(training_child, "_EXIT_S", 0.5)
    with pytest.raises(RunKilled, match="did not end"):
        run(SILENCE)

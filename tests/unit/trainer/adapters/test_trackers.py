"""What the trackers write, read back with TensorBoard's and MLflow's own readers; and that no fault of one reaches a job."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import ValidationError

from plumbline.stack.processes import free_port
from services.common.runtime.errors import Unsupported
from services.trainer.adapters.background_tracker import BackgroundTracker
from services.trainer.adapters.mlflow_tracker import MlflowTracker
from services.trainer.adapters.open_tracker import NoTracker, open_tracker
from services.trainer.adapters.tensorboard_tracker import TensorboardTracker
from services.trainer.ports import RunEnd, TrackedJob, Tracker
from services.trainer.settings import TrainerSettings
from tests.support.full_disk import full_disk
from tests.support.tracked_runs import ReadRun, read_mlflow, read_tensorboard
from tests.support.waiting import wait_for
from tests.unit.trainer.fakes import ListTracker

JOB = TrackedJob("job-1", "films", {"loss": "RRR", "seed": "0"}, {"model_digest": "sha256:one", "code_version": "0.1"})
OTHER = TrackedJob("job-2", "films", {"loss": "R4"}, {"model_digest": "sha256:one"})
PUBLISHED = RunEnd("PUBLISHED", {"published_version": "2"}, {"gate/after/accuracy": 0.75})
CUT_OFF = RunEnd("CUT_OFF", {}, {})


@dataclass(frozen=True)
class Kind:
    """One way of tracking: a tracker as each worker has its own, and the reader of what they leave."""

    name: str
    open: Callable[[], Tracker]
    read: Callable[[str], ReadRun]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow makes a database in seconds; the tests use jobs, not databases, of their own."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'runs.db'}"


@pytest.fixture(params=["tensorboard", "mlflow"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Kind:
    if request.param == "tensorboard":
        return Kind(
            "tensorboard",
            lambda: TensorboardTracker(tmp_path / "runs"),
            lambda job_id: read_tensorboard(tmp_path / "runs", "films", job_id),
        )
    uri = request.getfixturevalue("database")
    return Kind("mlflow", lambda: MlflowTracker(uri, timeout_s=5), lambda job_id: read_mlflow(uri, "films", job_id))


def named(job: TrackedJob, request: pytest.FixtureRequest) -> TrackedJob:
    """The job under an id of this test's."""
    return TrackedJob(f"{job.job_id}-{abs(hash(request.node.name))}", job.model_name, job.settings, job.lineage)


def test_curves_settings_lineage_and_end_are_there_for_their_own_reader(kind: Kind, request: pytest.FixtureRequest):
    job, other, tracker = named(JOB, request), named(OTHER, request), kind.open()
    tracker.begin(job)
    tracker.begin(other)
    for step in (0, 10, 20):
        tracker.tell(job.job_id, step, {"step/penalty": 1 / (1 + step), "step/strength": 8.0})
        tracker.tell(other.job_id, step, {"step/penalty": 7.0})
    tracker.end(job.job_id, PUBLISHED)
    tracker.end(other.job_id, CUT_OFF)
    run = kind.read(job.job_id)
    assert run.curves["step/penalty"] == [(step, pytest.approx(1 / (1 + step))) for step in (0, 10, 20)]
    assert run.curves["step/strength"] == [(step, 8.0) for step in (0, 10, 20)]
    assert run.curves["gate/after/accuracy"] == [(0, 0.75)]
    assert all(word in run.texts for word in ("RRR", "sha256:one", "0.1", "PUBLISHED", "published_version"))
    assert "R4" not in run.texts
    if kind.name == "mlflow":
        assert "status FINISHED" in run.texts
        assert "status FAILED" in kind.read(other.job_id).texts


def test_a_job_that_comes_again_goes_on_in_its_run_and_its_steps_are_told_once(
    kind: Kind, request: pytest.FixtureRequest
):
    job, first, second = named(JOB, request), kind.open(), kind.open()
    first.begin(job)
    for step in (0, 10, 20, 30):
        first.tell(job.job_id, step, {"step/penalty": float(step)})
    first.end(job.job_id, CUT_OFF)
    second.begin(job)
    for step in (20, 30, 40):  # its last checkpoint was at 10
        second.tell(job.job_id, step, {"step/penalty": float(step)})
    second.end(job.job_id, PUBLISHED)
    run = kind.read(job.job_id)
    assert run.curves["step/penalty"] == [(step, float(step)) for step in (0, 10, 20, 30, 40)]
    assert run.curves["gate/after/accuracy"] == [(0, 0.75)]
    if kind.name == "mlflow":
        assert "status FINISHED" in run.texts


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # the writer's own thread dies of it
@pytest.mark.parametrize("fails_at_end", [False, True])
def test_curves_go_on_in_another_file_once_the_disk_has_room_again(tmp_path: Path, fails_at_end: bool):
    tracker = TensorboardTracker(tmp_path)
    tracker.begin(JOB)
    tracker.tell(JOB.job_id, 1, {"step/penalty": 1.0})
    writer = tracker._writers[JOB.job_id]
    writer.flush()
    with full_disk(1):
        tracker.tell(JOB.job_id, 2, {"step/penalty": 2.0})
        wait_for(lambda: not writer.file_writer.event_writer._async_writer._worker.is_alive(), 5)
    with pytest.raises(OSError, match="too large"):
        tracker.end(JOB.job_id, CUT_OFF) if fails_at_end else tracker.tell(JOB.job_id, 3, {"step/penalty": 3.0})
    if fails_at_end:
        tracker.begin(JOB)
    tracker.tell(JOB.job_id, 4, {"step/penalty": 4.0})
    tracker.end(JOB.job_id, PUBLISHED)
    assert read_tensorboard(tmp_path, "films", JOB.job_id).curves["step/penalty"] == [(1, 1.0), (4, 4.0)]


@pytest.fixture
def stage() -> tuple[ListTracker, BackgroundTracker]:
    inner = ListTracker()
    return inner, BackgroundTracker(inner, capacity=3, pause_s=0.0)


def test_a_tracker_that_fails_is_told_of_once_counted_and_never_reaches_the_caller(
    stage: tuple[ListTracker, BackgroundTracker], caplog: pytest.LogCaptureFixture
):
    inner, tracker = stage
    inner.failure = OSError("no space left on /secret/path")
    with caplog.at_level(logging.WARNING):
        tracker.begin(JOB)
        for step in range(3):
            tracker.tell(JOB.job_id, step, {})
            wait_for(lambda: tracker._calls.empty(), 5)
        tracker.end(JOB.job_id, CUT_OFF)
        tracker.close()
    told = [
        (record.message, getattr(record, "cause", None), getattr(record, "lost_calls", None))
        for record in caplog.records
    ]
    assert told == [("tracking failed", "OSError", None), ("tracking has gaps", None, 4)]
    assert "/secret/path" not in caplog.text


def test_a_tracker_that_comes_back_gets_the_job_and_all_that_follows(stage: tuple[ListTracker, BackgroundTracker]):
    inner, tracker = stage
    inner.failure = OSError()
    tracker.begin(JOB)
    tracker.tell(JOB.job_id, 1, {})
    wait_for(lambda: tracker._lost[JOB.job_id] == 1, 5)
    inner.failure = None
    tracker.tell(JOB.job_id, 2, {})
    tracker.end(JOB.job_id, PUBLISHED)
    tracker.close()
    assert inner.told == [JOB, (JOB.job_id, 2, {}), PUBLISHED]


def test_a_tracker_that_hangs_is_not_waited_for_longer_than_asked(stage: tuple[ListTracker, BackgroundTracker]):
    inner, tracker = stage
    inner.hold = threading.Event()
    tracker.begin(JOB)
    for step in range(100):
        tracker.tell(JOB.job_id, step, {})
    release = threading.Timer(0.5, lambda: tracker._calls.get())  # room for the last word, and nothing else
    release.start()
    started = time.monotonic()
    tracker.close(0.6)
    assert 0.4 < time.monotonic() - started < 0.9
    inner.hold.set()


def test_a_tracker_that_hangs_holds_nobody_up_and_what_does_not_fit_is_lost(
    stage: tuple[ListTracker, BackgroundTracker], caplog: pytest.LogCaptureFixture
):
    inner, tracker = stage
    inner.hold = threading.Event()
    tracker.begin(JOB)
    for step in range(100):
        tracker.tell(JOB.job_id, step, {})  # would stand still here
    inner.hold.set()
    wait_for(lambda: tracker._calls.empty(), 5)
    tracker.end(JOB.job_id, CUT_OFF)
    tracker.close()
    kept = sum(isinstance(told, tuple) for told in inner.told)
    assert 2 <= kept <= 4
    assert caplog.records[-1].lost_calls == 100 - kept


def test_after_a_fault_a_tracker_is_left_alone_but_for_the_end(caplog: pytest.LogCaptureFixture):
    inner = ListTracker()
    tracker = BackgroundTracker(inner, pause_s=1e6)
    inner.failure = OSError()
    tracker.begin(JOB)
    tracker.tell(JOB.job_id, 1, {})
    wait_for(lambda: tracker._lost[JOB.job_id] == 1, 5)
    inner.failure = None
    tracker.tell(JOB.job_id, 2, {})
    wait_for(lambda: tracker._lost[JOB.job_id] == 2, 5)
    tracker.end(JOB.job_id, PUBLISHED)
    tracker.close()
    assert inner.told == [JOB, PUBLISHED]


def test_a_worker_starts_though_its_mlflow_server_is_away(caplog: pytest.LogCaptureFixture):
    tracker = open_tracker("mlflow", f"http://127.0.0.1:{free_port()}", timeout_s=1)
    tracker.begin(JOB)
    tracker.end(JOB.job_id, PUBLISHED)
    tracker.close()
    assert caplog.records[0].message == "tracking failed"


def test_tracking_is_never_required():
    assert isinstance(open_tracker("none", "", 10), NoTracker)


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_missing_package_is_told_with_the_setting_and_what_to_install(tmp_path: Path, kind: str, package: str):
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"  # as if it were not installed
        "from services.trainer.adapters.open_tracker import open_tracker\n"
        f"open_tracker({kind!r}, {str(tmp_path)!r}, 10)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert f"TRAINER_TRACKING={kind}: " in done.stderr
    assert f"{Unsupported.__name__}" in done.stderr
    assert "pip install 'plumbline[tracking]'" in done.stderr


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"TRAINER_TRACKING": "tensorboard"}, "TRAINER_TRACKING_LOCATION"),
        ({"TRAINER_TRACKING": "wandb"}, "tracking"),
        ({"TRAINER_TRACKING_TIMEOUT_S": "0"}, "tracking_timeout_s"),
    ],
)
def test_settings_at_fault_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], told: str):
    for name in [name for name in os.environ if name.startswith("TRAINER_")]:
        monkeypatch.delenv(name)
    needed = ("LISTEN", "BROKER_URL", "STORE_ROOT", "DATA_ROOT", "EXPLAINER_ADDRESS", "LVLM_ADDRESS")
    for name, value in {**{f"TRAINER_{name}": "x:1" for name in needed}, **changes}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=told):
        TrainerSettings()

"""Real workers that track to TensorBoard's files or to a real MLflow server: one run a job, whichever worker has it."""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from plumbline.stack.processes import Command, free_port, start, stop
from services.common.runtime.queues import JOBS_QUEUE, TRAIN_TASK
from services.trainer.adapters.celery_queue import build_app
from services.trainer.adapters.job_record import checkpoints_path
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import Job, JobState
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.support.tracked_runs import read_mlflow, read_tensorboard
from tests.support.waiting import wait_for

TRAINED_S = 120.0
SERVE = "import sys; from mlflow.server import app; app.run(port=int(sys.argv[1]))"
UNREACHABLE = Criteria(min_reliance_drop=1.0)
"""Nothing reaches it, so the job ends without an explainer to publish to."""


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that keeps its runs in SQLite."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    variables = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'runs.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder / "artifacts"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    child = start(Command("mlflow", [sys.executable, "-c", SERVE, str(port)], variables), folder / "log")
    url = f"http://127.0.0.1:{port}"
    wait_for(lambda: _answers(f"{url}/health"), 60)
    yield url
    stop([child])


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def _begin(trainer: Trainer) -> Job:
    """A job whose critiques are all there, sent to be trained."""
    job = make_waiting_job(trainer, write_data_and_model(trainer), criteria=UNREACHABLE, submitter="Mrs Example")
    for batch in make_batches(trainer, job):
        for critique in batch.critiques:
            trainer.record.add_critique(job.job_id, critique)
    trainer.record.advance(trainer.record.load(job.job_id), JobState.TRAINING)
    _send(trainer, job)
    return job


def _send(trainer: Trainer, job: Job) -> None:
    app = build_app(trainer.broker)
    app.send_task(TRAIN_TASK, kwargs={"job_id": job.job_id}, queue=JOBS_QUEUE, ignore_result=True)


def _is_over(trainer: Trainer, job: Job) -> bool:
    return trainer.record.load(job.job_id).state.is_final


@pytest.mark.parametrize("kind", ["tensorboard", pytest.param("mlflow", marks=pytest.mark.slow)])
def test_a_job_that_another_worker_ends_has_one_run_with_every_step_once(
    trainer: Trainer, kind: str, request: pytest.FixtureRequest
):
    location = str(trainer.root / "runs") if kind == "tensorboard" else request.getfixturevalue("mlflow_server")
    read = read_tensorboard if kind == "tensorboard" else read_mlflow
    settings = {"tracking": kind, "tracking_location": location, "checkpoint_interval_s": "0.2"}
    first = trainer.start("worker", **settings)
    job = _begin(trainer)
    checkpoints = trainer.root / "store" / checkpoints_path(job.job_id)
    wait_for(lambda: checkpoints.is_dir() and any(checkpoints.glob("[0-9]*")), TRAINED_S)
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(60)
    assert not _is_over(trainer, job)
    assert "CUT_OFF" in read(location, "stripes", job.job_id).texts

    second = trainer.start("worker", **settings)
    wait_for(lambda: _is_over(trainer, job), TRAINED_S)
    second.process.send_signal(signal.SIGTERM)
    second.process.wait(60)
    assert trainer.record.load(job.job_id).state is JobState.REJECTED
    metrics, run = trainer.record.read(job.job_id, "metrics.json"), read(location, "stripes", job.job_id)

    trained = [step for step, _ in run.curves["step/cross_entropy"]]
    probes = 100 * len(metrics["trials"])
    assert trained == [*range(1, probes + 1), *range(probes + 10, probes + 1001, 10)]
    ranked = [step for step, _ in run.curves["snapshot/swap_accuracy"]]
    assert ranked == [*range(100, probes + 1, 100), *range(probes + 100, probes + 1001, 100)]
    chosen = dict(run.curves["snapshot/swap_accuracy"])[probes + metrics["chosen"]["step"]]
    assert chosen == pytest.approx(metrics["after"]["swap_accuracy"])
    assert run.curves["gate/after/swap_accuracy"] == [(0, pytest.approx(metrics["after"]["swap_accuracy"]))]
    assert run.curves["gate/is_accepted"] == [(0, 0.0)]
    told = [job.request.model_digest, job.request.specification_digest, "REJECTED", metrics["decision"]["reason"]]
    assert all(word in run.texts for word in told)
    assert not any(word in run.texts for word in ("Mrs Example", "block", ".png"))
    assert "tracking failed" not in trainer.logs()
    assert kind == "tensorboard" or location not in trainer.logs()  # a URI may hold a password


@pytest.mark.slow
def test_a_tracker_that_can_not_be_used_costs_curves_and_no_job(trainer: Trainer):
    (trainer.root / "runs").write_text("a file where the folder should be")
    trainer.start("worker", tracking="tensorboard", tracking_location=str(trainer.root / "runs"))
    job = _begin(trainer)
    wait_for(lambda: _is_over(trainer, job), TRAINED_S)
    assert trainer.record.load(job.job_id).state is JobState.REJECTED
    wait_for(lambda: "tracking has gaps" in trainer.logs(), 20)
    assert trainer.logs().count("tracking failed") == 1

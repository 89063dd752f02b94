"""The `Tracker` port on MLflow: an experiment per model, a run per job."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

# Before the import: MLflow reports its own use to its makers from then on, and a hospital's network must not be asked to let that out.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.environment_variables import (
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException

from services.trainer.ports import RunEnd, TrackedJob

_JOB_TAG = "plumbline.job_id"
_STATUSES = {"PUBLISHED": "FINISHED", "REJECTED": "FINISHED", "CANCELLED": "KILLED"}


class MlflowTracker:
    """Speaks to the server, or uses the store, at `uri`; a request takes at most `timeout_s` and is not sent twice."""

    def __init__(self, uri: str, timeout_s: int) -> None:
        MLFLOW_HTTP_REQUEST_TIMEOUT.set(timeout_s)
        MLFLOW_HTTP_REQUEST_MAX_RETRIES.set(0)
        # Else the URI comes into the worker's log at the end of every run, with a password if it holds one.
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT.set(True)
        self._client = MlflowClient(tracking_uri=uri)
        self._runs: dict[str, str] = {}

    def begin(self, job: TrackedJob) -> None:
        """See the port."""
        run_id = self._find_run(job)
        self._client.update_run(run_id, status="RUNNING")
        settings = [Param(name, value) for name, value in job.settings.items()]
        self._client.log_batch(run_id, params=settings, tags=_tags(job.lineage))
        self._runs[job.job_id] = run_id

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        """See the port."""
        self._client.log_batch(self._runs[job_id], metrics=_metrics(step, numbers))

    def end(self, job_id: str, end: RunEnd) -> None:
        """See the port."""
        run_id = self._runs[job_id]
        tags = _tags({"outcome": end.outcome} | dict(end.told))
        self._client.log_batch(run_id, metrics=_metrics(0, end.numbers), tags=tags)
        self._client.set_terminated(run_id, _STATUSES.get(end.outcome, "FAILED"))
        del self._runs[job_id]

    def _find_run(self, job: TrackedJob) -> str:
        experiment_id = self._find_experiment(f"plumbline {job.model_name}")
        found = self._client.search_runs([experiment_id], f"tags.`{_JOB_TAG}` = '{job.job_id}'", max_results=1)
        run = (
            found[0]
            if found
            else self._client.create_run(experiment_id, tags={_JOB_TAG: job.job_id}, run_name=job.job_id)
        )
        return run.info.run_id

    def _find_experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                return self._client.create_experiment(name)
            except MlflowException:
                found = self._client.get_experiment_by_name(name)  # another worker was first
                if found is None:
                    raise
        return found.experiment_id


def _metrics(step: int, numbers: Mapping[str, float]) -> list[Metric]:
    now_ms = int(time.time() * 1000)
    return [Metric(name, value, now_ms, step) for name, value in numbers.items()]


def _tags(told: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(f"plumbline.{name}", value) for name, value in told.items()]

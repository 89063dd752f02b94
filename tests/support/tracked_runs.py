"""What trackers left behind, read with TensorBoard's and MLflow's own readers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


@dataclass(frozen=True)
class ReadRun:
    """A job's run: each curve's (step, value) in order of steps, and all its texts as one."""

    curves: dict[str, list[tuple[int, float]]]
    texts: str


def read_tensorboard(folder: str | Path, model_name: str, job_id: str) -> ReadRun:
    """The run in `folder`; nothing where there is none."""
    events = EventAccumulator(str(Path(folder) / model_name / job_id), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    curves = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in tags["scalars"]}
    texts = [event.tensor_proto.string_val[0].decode() for name in tags["tensors"] for event in events.Tensors(name)]
    return ReadRun(curves, "\n".join(texts))


def read_mlflow(uri: str, model_name: str, job_id: str) -> ReadRun:
    """The only run of the job at `uri`; nothing where there is none. Of a step told twice the last value counts."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(f"plumbline {model_name}")
    if experiment is None:
        return ReadRun({}, "")
    found = client.search_runs([experiment.experiment_id], f"tags.`plumbline.job_id` = '{job_id}'")
    if not found:
        return ReadRun({}, "")
    (run,) = found
    curves = {}
    for name in run.data.metrics:
        history = client.get_metric_history(run.info.run_id, name)
        curves[name] = sorted({point.step: point.value for point in history}.items())
    texts = [f"{name} {value}" for name, value in {**run.data.params, **run.data.tags}.items()]
    return ReadRun(curves, "\n".join([f"status {run.info.status}", *texts]))

"""The `Tracker` port on TensorBoard's event files: <folder>/<model>/<job id>/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from services.trainer.ports import RunEnd, TrackedJob

_FLUSH_S = 10


class TensorboardTracker:
    """Files below `folder`, one folder a job; each worker that has the job adds a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, TrackedJob] = {}
        self._writers: dict[str, SummaryWriter] = {}

    def begin(self, job: TrackedJob) -> None:
        """See the port."""
        self._jobs[job.job_id] = job

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        """See the port."""
        # The first step of a file takes the place of what an earlier one says from there on.
        writer = self._writers.get(job_id) or self._open(job_id, step)
        try:
            for name, value in numbers.items():
                writer.add_scalar(name, value, step)
        except Exception:
            del self._writers[job_id]  # once it could not write it never will: the next call opens another file
            raise

    def end(self, job_id: str, end: RunEnd) -> None:
        """See the port."""
        writer = self._writers.get(job_id) or self._open(job_id, None)
        # First, for the job may come again, and not to a writer that failed.
        del self._writers[job_id], self._jobs[job_id]
        writer.add_text("end", _table({"outcome": end.outcome} | dict(end.told)))
        for name, value in end.numbers.items():
            writer.add_scalar(name, value, 0)
        writer.close()

    def _open(self, job_id: str, first_step: int | None) -> SummaryWriter:
        job = self._jobs[job_id]
        writer = SummaryWriter(self._folder / job.model_name / job_id, purge_step=first_step, flush_secs=_FLUSH_S)
        self._writers[job_id] = writer
        writer.add_text("settings", _table(job.settings))
        writer.add_text("lineage", _table(job.lineage))
        return writer


def _table(rows: Mapping[str, str]) -> str:
    """Rows as a Markdown table, which is what TensorBoard shows."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])

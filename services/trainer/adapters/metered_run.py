"""A `TrainingRun` around another: times and traces trainings, counts how trainings end, what the gate says of them, and the signs of progress that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.common.runtime.traces import span
from services.trainer import metrics
from services.trainer.domain.job import Job
from services.trainer.ports import Progress, RunKilled, TrainingRun, WorkerStopping


class MeteredRun:
    """Trains as `run` does."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run

    def __call__(
        self,
        job: Job,
        on_progress: Callable[[Progress], None],
        is_wanted: Callable[[], bool],
        on_numbers: Callable[[int, Mapping[str, float]], None],
    ) -> dict[str, Any] | None:
        """See the port."""

        def tell(progress: Progress) -> None:
            metrics.TRAINING_REPORTS.inc()
            on_progress(progress)

        outcome = "FAILED"
        with metrics.TRAININGS_RUNNING.track_inprogress(), metrics.TRAINING_SECONDS.time():
            try:
                with span("training", job_id=job.job_id):
                    measured = self._run(job, tell, is_wanted, on_numbers)
                outcome = "CANCELLED" if measured is None else "MEASURED"
            except WorkerStopping:
                outcome = "SENT_ON"
                raise
            except RunKilled:
                outcome = "KILLED"
                raise
            finally:
                metrics.TRAININGS.labels(outcome).inc()
        if measured is not None:
            decision = "ACCEPTED" if measured["decision"]["is_accepted"] else "REJECTED"
            metrics.GATE_DECISIONS.labels(decision).inc()
        return measured

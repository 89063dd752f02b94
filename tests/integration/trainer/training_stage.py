"""A job that real training processes can be run on, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from services.trainer.adapters.job_record import checkpoints_path
from services.trainer.adapters.training_child import TrainingChild
from services.trainer.domain.job import Job
from services.trainer.ports import Progress
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model

NEVER_S, OFTEN_S = 1e6, 0.2
TRAINED_S = 240.0


class Stage:
    """A job whose critiques are all there."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.job: Job = make_waiting_job(trainer, write_data_and_model(trainer))
        for batch in make_batches(trainer, self.job):
            for critique in batch.critiques:
                trainer.record.add_critique(self.job.job_id, critique)
        self.stopping = threading.Event()
        self.shown: list[Progress] = []

    @property
    def checkpoints(self) -> list[str]:
        folder = self.trainer.root / "store" / checkpoints_path(self.job.job_id)
        return sorted(path.name for path in folder.glob("[0-9]*")) if folder.is_dir() else []

    def run(
        self,
        interval_s: float,
        meanwhile: Callable[[], object] = lambda: None,
        process_count: int = 1,
        device: str = "cpu",
    ) -> dict[str, Any] | None:
        """One training in so many processes; `meanwhile` comes about every second and after each report, and ends it when it says False."""
        root, self.shown = self.trainer.root, []
        child = TrainingChild(
            str(root / "store"), root / "data", 1, TRAINED_S, interval_s, self.stopping, process_count, device
        )
        return child(self.job, self.shown.append, lambda: meanwhile() is not False, lambda step, numbers: None)

"""Open the tracker that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from services.common.runtime.errors import Unsupported
from services.trainer.adapters.background_tracker import BackgroundTracker
from services.trainer.ports import RunEnd, TrackedJob, Tracker


class NoTracker:
    """A `Tracker` that shows nothing."""

    def begin(self, job: TrackedJob) -> None:
        """See the port."""

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        """See the port."""

    def end(self, job_id: str, end: RunEnd) -> None:
        """See the port."""

    def close(self) -> None:
        """Nothing is open."""


def open_tracker(kind: str, location: str, timeout_s: int) -> BackgroundTracker | NoTracker:
    """A tracker of `kind` (none, tensorboard, mlflow) at `location`, a folder or a URI. No call of it waits or fails.

    Raises
    ------
    Unsupported
        When the kind's package is missing.
    """
    if kind == "none":
        return NoTracker()
    try:
        return BackgroundTracker(_open(kind, location, timeout_s))
    except ImportError as error:
        raise Unsupported(
            f"TRAINER_TRACKING={kind}: {error.name} is missing: pip install 'plumbline[tracking]'"
        ) from error


def _open(kind: str, location: str, timeout_s: int) -> Tracker:
    if kind == "tensorboard":
        from services.trainer.adapters.tensorboard_tracker import TensorboardTracker

        return TensorboardTracker(Path(location))
    from services.trainer.adapters.mlflow_tracker import MlflowTracker

    return MlflowTracker(location, timeout_s)

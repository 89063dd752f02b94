"""Follow a job on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

_STEPS = {
    "QUEUED": "waiting for a worker",
    "CRITIQUING": "judging pictures",
    "AWAITING_REVIEW": "waiting for a review",
    "TRAINING": "fine-tuning",
    "EVALUATING": "at the gate",
}


def follow(console: Console, changes: Iterable[trainer_pb.Alignment]) -> trainer_pb.Alignment:
    """Show a bar per state until the job has ended; returns the job as it ended."""
    # Narrow, so that bar and note fit a terminal of 80 columns.
    columns = (TextColumn("{task.description:20}"), BarColumn(8), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as bars:
        shown, bar, alignment = "", None, None
        for alignment in changes:
            state = state_name(alignment)
            if state != shown:
                if bar is not None:
                    bars.update(bar, total=1, completed=1)
                shown = state
                bar = bars.add_task(_STEPS[state], total=None, note="") if state in _STEPS else None
            if bar is not None and alignment.progress.total:
                bars.update(
                    bar, total=alignment.progress.total, completed=alignment.progress.done, note=_note(alignment)
                )
    return alignment


def state_name(alignment: trainer_pb.Alignment) -> str:
    """The state without its prefix: "PUBLISHED"."""
    return trainer_pb.JobState.Name(alignment.state).removeprefix("JOB_STATE_")


def _note(alignment: trainer_pb.Alignment) -> str:
    if alignment.progress.HasField("loss"):
        return f"loss {alignment.progress.loss:.3f}"
    counts = alignment.verdict_counts
    return ", ".join(
        f"{counts[name]} {name.lower()}" for name in ("SPURIOUS", "CORE", "UNSURE", "FAILED") if counts.get(name)
    )

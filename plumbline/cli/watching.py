"""Follow a job on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from plumbline.names import short_name
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

_STEPS = {
    "QUEUED": "waiting for a worker",
    "CRITIQUING": "judging pictures",
    "AWAITING_REVIEW": "waiting for a review",
    "TRAINING": "fine-tuning",
    "EVALUATING": "at the gate",
}

SECONDS_TOLD_S, MINUTES_TOLD = 90, 90
"""Times below are told in seconds, and in minutes; the others in hours."""


def follow(console: Console, changes: Iterable[trainer_pb.Alignment]) -> trainer_pb.Alignment:
    """Show a bar per state until the job has ended; returns the job as it ended."""
    # Narrow, so that bar and note fit a terminal of 80 columns.
    columns = (TextColumn("{task.description:20}"), BarColumn(8), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(
        *columns, TextColumn("{task.fields[left]}"), TextColumn("{task.fields[note]}"), console=console
    ) as bars:
        shown, bar, alignment = "", None, None
        for alignment in changes:
            state = state_name(alignment)
            if state != shown:
                if bar is not None:
                    bars.update(bar, total=1, completed=1, left="")
                shown = state
                bar = bars.add_task(_STEPS[state], total=None, left="", note="") if state in _STEPS else None
            if bar is not None and alignment.progress.total:
                bars.update(
                    bar,
                    total=alignment.progress.total,
                    completed=alignment.progress.done,
                    left=_left(alignment.progress),
                    note=_note(alignment),
                )
    return alignment


def until_review(changes: Iterable[trainer_pb.Alignment]) -> Iterator[trainer_pb.Alignment]:
    """The changes up to the one from which a person has to go on, if there is one."""
    for alignment in changes:
        yield alignment
        if alignment.state == trainer_pb.JOB_STATE_AWAITING_REVIEW:
            return


def state_name(alignment: trainer_pb.Alignment) -> str:
    """The state without its prefix: "PUBLISHED"."""
    return short_name(trainer_pb.JobState, alignment.state)


def _left(progress: trainer_pb.Progress) -> str:
    """The time left as of the last step, to the second, the minute or the tenth of an hour; empty while it is unknown or nothing is left."""
    if not progress.eta_s:
        return ""
    if progress.eta_s < SECONDS_TOLD_S:
        return f"{progress.eta_s:.0f} s left"
    minutes = progress.eta_s / 60
    return f"{minutes:.0f} min left" if minutes < MINUTES_TOLD else f"{minutes / 60:.1f} h left"


def _note(alignment: trainer_pb.Alignment) -> str:
    if alignment.progress.HasField("loss"):
        return f"loss {alignment.progress.loss:.3f}"
    counts = alignment.verdict_counts
    return ", ".join(
        f"{counts[name]} {name.lower()}" for name in ("SPURIOUS", "CORE", "UNSURE", "FAILED") if counts.get(name)
    )

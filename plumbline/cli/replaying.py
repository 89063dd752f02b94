"""Critiques judged again, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from plumbline.cli.session import console, failures_told
from plumbline.common.v1 import critique_pb2
from plumbline.names import short_name
from plumbline.replay import JobReplay, ReplayedImage, replay_job

critiques_app = typer.Typer(no_args_is_help=True, help="What was said of a job's pictures.")


@critiques_app.callback()
def critiques() -> None:
    """What was said of a job's pictures."""


@critiques_app.command()
def replay(context: typer.Context, job_id: Annotated[str, typer.Argument(help="The job's id.")]) -> None:
    """Judge a job's pictures again and compare; status 1 when something changed although nothing differs in how it came about."""
    with failures_told(), context.obj.client() as client:
        with console.status("judging again"):
            replayed = replay_job(client, job_id)
        _print(replayed)
    if replayed.broken:
        raise typer.Exit(1)


def _print(replayed: JobReplay) -> None:
    changed = [image for image in replayed.images if not image.is_same]
    if changed:
        table = Table("picture", "class", "segments: then → now", "critic", "differs")
        for image in changed:
            table.add_row(*map(escape, _row(image)))
        console.print(table)
    same = len(replayed.images) - len(changed)
    console.print(f"{same} of {len(replayed.images)} critiques are the same", highlight=False)
    if replayed.left_out:
        console.print(f"not judged again, for no segments are kept: {', '.join(replayed.left_out)}", markup=False)
    differences = sorted({name for image in replayed.images for name in image.differences})
    told = (
        f"then and now differ in {', '.join(differences)}" if differences else "nothing differs in how they came about"
    )
    console.print(told, highlight=False)


def _row(image: ReplayedImage) -> list[str]:
    pairs = zip(image.stored.verdicts, image.today.verdicts, strict=True)
    segments = [
        f"{then.segment_index}: {_name(then)} → {_name(now)}"
        for then, now in pairs
        if then.segment_index in image.changed_segments
    ]
    words = "same words" if image.stored.reasons == image.today.reasons else "other words"
    return [image.stored.image_id, image.stored.true_label, _lines(segments), words, _lines(image.differences)]


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(texts) or "–"


def _name(verdict: critique_pb2.SegmentVerdict) -> str:
    return short_name(critique_pb2.Verdict, verdict.verdict)

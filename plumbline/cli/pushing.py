"""Critiques of people and tools into a job, and a job's critiques out to them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from plumbline.cli.replaying import critiques_app
from plumbline.cli.session import console, failures_told
from plumbline.errors import PlumblineError
from plumbline.labelling import Findings, Gallery, list_batches, read_critiques, split_batches, write_coco
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

SHOWN_UNKNOWN = 5


@critiques_app.command()
def push(
    context: typer.Context,
    file: Annotated[
        Path,
        typer.Argument(help="Critique batches or COCO annotations as JSON, or a folder of PNG masks.", exists=True),
    ],
    job: Annotated[str, typer.Option(help="The job's id.")],
    by: Annotated[str, typer.Option(help="Who drew, by name or role; COCO and masks do not say it.")] = "annotator",
) -> None:
    """Send critiques into a job; status 1 when one was set aside, which keeps none of the others back."""
    with failures_told(), context.obj.client() as client:
        gallery = Gallery(client.pictures(job), client.job(job).model.digest, by)
        findings = read_critiques(file, job, gallery)
        batches = split_batches(job, findings)
        with console.status("sending"):
            pushed = [critique for batch in batches for critique in client.push(batch)]
    if _tell(findings, pushed):
        raise typer.Exit(1)


@critiques_app.command()
def export(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder to write to; made if it is not there.")],
) -> None:
    """Write a job's critiques and pictures: critiques.json (ours), coco.json and the picture files, for a label tool."""
    with failures_told(), context.obj.client() as client:
        critiqued = list(client.critiques(job_id, with_pictures=False))
        if not critiqued:
            raise PlumblineError(f"job {job_id} has no critiques yet")
        out.mkdir(parents=True, exist_ok=True)
        for picture in client.critiques(job_id):
            _write_picture(out, picture)
        batches = list_batches(job_id, client.job(job_id).model.digest, critiqued)
        (out / "critiques.json").write_text(json.dumps(batches, indent=1), encoding="utf-8")
        (out / "coco.json").write_text(json.dumps(write_coco(critiqued, client.pictures(job_id))), encoding="utf-8")
    console.print(f"wrote {len(critiqued)} critiques and their pictures to {out}", highlight=False)


def _write_picture(out: Path, picture: trainer_pb.CritiquedImage) -> None:
    name = PurePosixPath(picture.image.id)
    if name.is_absolute() or ".." in name.parts:
        raise PlumblineError(f"'{picture.image.id}' is no file name below a folder")
    path = out / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.image.data)


def _tell(findings: Findings, pushed: list[trainer_pb.PushedCritique]) -> bool:
    """Print what became of everything; whether anything was set aside."""
    set_aside = [
        (critique.image_id or critique.image_digest or "a critique", critique.reason)
        for critique in pushed
        if critique.outcome == trainer_pb.PUSH_OUTCOME_SET_ASIDE
    ]
    set_aside += findings.faults
    counts = Counter(critique.outcome for critique in pushed)
    console.print(
        f"{counts[trainer_pb.PUSH_OUTCOME_TAKEN]} taken, {counts[trainer_pb.PUSH_OUTCOME_ALREADY_THERE]} there already, "
        f"{len(set_aside)} set aside",
        highlight=False,
    )
    if set_aside:
        table = Table("set aside", "why")
        for row in set_aside:
            table.add_row(*map(escape, row))
        console.print(table)
    if findings.unknown:
        first = ", ".join(findings.unknown[:SHOWN_UNKNOWN])
        more = f" and {len(findings.unknown) - SHOWN_UNKNOWN} more" if len(findings.unknown) > SHOWN_UNKNOWN else ""
        console.print(
            f"left out, for the job has chosen no picture of that name, or several: {first}{more}", markup=False
        )
    return bool(set_aside)

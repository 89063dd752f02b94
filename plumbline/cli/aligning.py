"""Jobs on the terminal: submit one and follow it, list, cancel, retry or recover them."""

from __future__ import annotations

import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from plumbline.cli.accepting import NAMES, read_criteria
from plumbline.cli.session import Model, Version, console, failures_told, only_model
from plumbline.cli.watching import follow, state_name, until_review
from plumbline.names import choices
from plumbline.specification import load_specification
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

JOB_TIMEOUT_S = 6 * 3600


class Masks(StrEnum):
    """How a job's masks come about."""

    JUDGED = "judged"
    GROUNDED = "grounded"
    AGREED = "agreed"


class Loss(StrEnum):
    """How a job keeps the model from using what the masks cover."""

    RRR = "rrr"
    R4 = "r4"
    MASK_OUT = "mask-out"


class Selection(StrEnum):
    """Which training pictures a job has critiqued."""

    LOW_ENTROPY_PER_CLASS = "low-entropy-per-class"
    LOW_ENTROPY = "low-entropy"
    HIGH_ENTROPY = "high-entropy"
    RANDOM = "random"


class Priority(StrEnum):
    """Which jobs come before a job."""

    URGENT = "urgent"
    NORMAL = "normal"
    BATCH = "batch"


State = choices("State", trainer_pb.JobState)


def align(
    context: typer.Context,
    specification: Annotated[Path, typer.Argument(help="YAML with the task and a sentence per class.")],
    data: Annotated[str, typer.Option(help="Data set: a folder below the data root, with metadata.csv.")],
    model: Model = "",
    version: Version = 0,
    masks: Annotated[
        Masks, typer.Option(help="By critic and judge, by where the phrases of the file's rules lie, or what both say.")
    ] = Masks.JUDGED,
    loss: Annotated[
        Loss,
        typer.Option(
            help="What is punished under the masks: the input gradient, the gradient where it is worst, or a change of the prediction."
        ),
    ] = Loss.RRR,
    selection: Annotated[
        Selection, typer.Option(help="Pictures to critique: those that the model is surest of, least sure of, or any.")
    ] = Selection.LOW_ENTROPY_PER_CLASS,
    images_per_class: Annotated[int, typer.Option(min=0, max=10_000, help="Pictures critiqued per class; 0: 40.")] = 0,
    epochs: Annotated[
        int, typer.Option(min=0, max=200, help="Passes over the training pictures; 0: the trainer's default.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of selection and training.")] = 0,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help=f"What the new version must hold to, from 0 to 1; may be given several times. Names: {', '.join(NAMES)}.",
        ),
    ] = None,
    priority: Annotated[
        Priority, typer.Option(help="Urgent jobs come before normal ones, and these before batch.")
    ] = Priority.NORMAL,
    submitter: Annotated[str, typer.Option(help="Who files the job; lists can be asked for it.")] = "",
    is_reviewed: Annotated[
        bool,
        typer.Option(
            "--review", help="Wait for a person's review of the critiques (plumbline review) before training."
        ),
    ] = False,
    key: Annotated[str, typer.Option(help="Idempotency key; the same key files one job.")] = "",
    is_watched: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the job to its end.")] = True,
) -> None:
    """Submit an alignment job and follow it; status 1 when it fails or is cancelled."""
    with failures_told(), context.obj.client() as client:
        file = load_specification(specification)
        request = trainer_pb.SubmitAlignmentRequest(
            idempotency_key=key or uuid.uuid4().hex,
            model={"name": model or only_model(client), "version": version},
            dataset_path=data,
            specification=file.specification,
            mask_source=f"MASK_SOURCE_{masks.name}",
            rules=file.rules,
            options={
                "images_per_class": images_per_class,
                "epochs": epochs,
                "seed": seed,
                "loss": f"LOSS_{loss.name}",
                "selection": f"SELECTION_{selection.name}",
                "criteria": read_criteria(accept or ()),
            },
            priority=f"PRIORITY_{priority.name}",
            submitter=submitter,
            review=is_reviewed,
        )
        alignment = client.submit(request)
        console.print(f"job {alignment.job_id}", highlight=False)
        if is_watched:
            alignment = follow(console, until_review(client.watch(alignment.job_id, JOB_TIMEOUT_S)))
            if state_name(alignment) == "AWAITING_REVIEW":
                console.print(
                    f"waits for a review: plumbline review {alignment.job_id} --page review.html",
                    highlight=False,
                    soft_wrap=True,
                )
                return
            _tell_end(alignment)


def jobs(
    context: typer.Context,
    cancel: Annotated[str, typer.Option(help="Cancel the job with this id.")] = "",
    watch: Annotated[
        str, typer.Option(help="Follow the job with this id; status 1 when it fails or is cancelled.")
    ] = "",
    retry: Annotated[
        str, typer.Option(help="File the request of this failed, cancelled or rejected job as a new one.")
    ] = "",
    is_recovering: Annotated[
        bool,
        typer.Option(
            "--recover", help="Put the jobs back in the queue that nobody works on: the broker lost its messages."
        ),
    ] = False,
    state: Annotated[
        list[State] | None, typer.Option(help="List only jobs at this state; may be given several times.")
    ] = None,
    submitter: Annotated[str, typer.Option(help="List only jobs of this submitter.")] = "",
) -> None:
    """List the newest jobs; cancel, follow or retry one, or put those back in the queue that nobody works on."""
    with failures_told(), context.obj.client() as client:
        if cancel:
            client.cancel(cancel, "cancelled from the command line")
        if retry:
            console.print(f"job {client.retry(retry, uuid.uuid4().hex).job_id}", highlight=False)
        if is_recovering:
            console.print(f"{client.recover()} jobs were put back in the queue", highlight=False)
        if watch:
            _tell_end(follow(console, client.watch(watch, JOB_TIMEOUT_S)))
            return
        table = Table(Column("job", no_wrap=True), "state", "model", "filed", "why")
        for job in client.jobs(states=[f"JOB_STATE_{asked.name}" for asked in state or ()], submitter=submitter):
            filed = job.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
            model = f"{job.model.name} {job.model.version}"
            table.add_row(job.job_id, state_name(job), model, filed, escape(job.reason))
        console.print(table)


def _tell_end(alignment: trainer_pb.Alignment) -> None:
    """How a job ended; `typer.Exit` with status 1 where that is with no decision of the gate."""
    console.print(f"{state_name(alignment)}: {alignment.reason}", markup=False, highlight=False, soft_wrap=True)
    if alignment.published.version:
        console.print(f"{alignment.published.name} version {alignment.published.version} is served", highlight=False)
    if state_name(alignment) in ("FAILED", "CANCELLED"):
        raise typer.Exit(1)

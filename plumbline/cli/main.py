"""Commands of `plumbline`."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from plumbline.cli.accepting import NAMES, read_criteria
from plumbline.cli.auditing import audit_app
from plumbline.cli.grounding import AsJson, Out, Phrases, ground
from plumbline.cli.pushing import critiques_app
from plumbline.cli.reviewing import review
from plumbline.cli.session import Session, console, failures_told
from plumbline.cli.specifying import specification_app
from plumbline.cli.watching import follow, state_name, until_review
from plumbline.client import Client, NamedImage, explained_images
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.report import collect, render
from plumbline.specification import load_specification
from plumbline.stack.bundles import store_bundle
from plumbline.stack.control import start_stack, stop_stack
from plumbline.stack.layout import StackLayout
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

JOB_TIMEOUT_S = 6 * 3600
MODELS_TIMEOUT_S = 30.0
SHOWN_PLACES = 6

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
models_app = typer.Typer(invoke_without_command=True, help="List the served models, add one, or roll one back.")
app.add_typer(models_app, name="models")
app.add_typer(audit_app, name="audit")
app.add_typer(critiques_app, name="critiques")
app.add_typer(specification_app, name="specification")
app.command()(review)


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


State = StrEnum(
    "State",
    [
        (name.removeprefix("JOB_STATE_"), name.removeprefix("JOB_STATE_").lower().replace("_", "-"))
        for name in trainer_pb.JobState.keys()[1:]
    ],
)

Model = Annotated[str, typer.Option("--model", "-m", help="Name of the model; needed when several are served.")]
Version = Annotated[int, typer.Option("--version", min=0, help="Version of the model; 0 is the champion.")]
Images = Annotated[list[Path], typer.Argument(help="PNG, JPEG or WebP files.", exists=True, dir_okay=False)]


@app.callback()
def main(
    context: typer.Context,
    state: Annotated[Path, typer.Option(help="State folder of the local stack.", envvar="PLUMBLINE_STATE")] = Path(
        ".plumbline"
    ),
    explainer: Annotated[str, typer.Option(help="host:port of an explainer.", envvar="PLUMBLINE_EXPLAINER")] = "",
    lvlm: Annotated[str, typer.Option(help="host:port of an LVLM service.", envvar="PLUMBLINE_LVLM")] = "",
    trainer: Annotated[str, typer.Option(help="host:port of a trainer.", envvar="PLUMBLINE_TRAINER")] = "",
) -> None:
    """Make a small vision model decide for the reasons its experts give."""
    context.obj = Session(state, explainer, lvlm, trainer)


@app.command()
def up(context: typer.Context) -> None:
    """Start Redis, Triton, the three services and a worker on this machine."""
    state = context.obj.state
    with failures_told():
        with console.status("starting Redis, Triton, explainer, LVLM service, trainer and worker"):
            layout = start_stack(state)
            _wait_for_models(layout)
        console.print(f"explainer {layout.explainer}  lvlm {layout.lvlm}  trainer {layout.trainer}", highlight=False)
        console.print(f"data sets go to {layout.data}, logs are in {layout.logs}", highlight=False)


@app.command()
def down(context: typer.Context) -> None:
    """End the local stack; what it stored stays."""
    with failures_told(), console.status("ending the stack"):
        ended = stop_stack(context.obj.state)
    console.print("ended" if ended else "no stack was running")


@app.command()
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of selection and training.")] = 0,
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
    """Submit an alignment job and follow it."""
    with failures_told(), context.obj.client() as client:
        file = load_specification(specification)
        request = trainer_pb.SubmitAlignmentRequest(
            idempotency_key=key or uuid.uuid4().hex,
            model={"name": model or _only_model(client), "version": version},
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
            _print_end(alignment)
            if state_name(alignment) in ("FAILED", "CANCELLED"):
                raise typer.Exit(1)


@app.command()
def jobs(
    context: typer.Context,
    cancel: Annotated[str, typer.Option(help="Cancel the job with this id.")] = "",
    watch: Annotated[str, typer.Option(help="Follow the job with this id.")] = "",
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
            _print_end(follow(console, client.watch(watch, JOB_TIMEOUT_S)))
            return
        table = Table(Column("job", no_wrap=True), "state", "model", "filed", "why")
        for job in client.jobs(states=[f"JOB_STATE_{asked.name}" for asked in state or ()], submitter=submitter):
            filed = job.created_at.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")
            model = f"{job.model.name} {job.model.version}"
            table.add_row(job.job_id, state_name(job), model, filed, escape(job.reason))
        console.print(table)


@app.command()
def explain(
    context: typer.Context,
    images: Images,
    model: Model = "",
    version: Version = 0,
    target: Annotated[str, typer.Option(help="Class to explain; default: the predicted one.")] = "",
    out: Annotated[
        Path | None, typer.Option(file_okay=False, help="Folder for PNGs of picture, map and segments.")
    ] = None,
) -> None:
    """Classify pictures and show where the evidence lies."""
    with failures_told(), context.obj.client() as client:
        name = model or _only_model(client)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        answered, explanations = client.explain(name, _named(images), version, target, with_overlay=out is not None)
        table = Table("picture", "says", "probability", "explained", "segments (share of the positive evidence)")
        for explanation in explanations:
            prediction = explanation.prediction
            shares = ", ".join(f"{segment.index}: {segment.share:.2f}" for segment in explanation.segments)
            row = [explanation.image_id, prediction.label, f"{max(prediction.probabilities):.3f}"]
            table.add_row(*map(escape, row), escape(explanation.target_label), shares or "none")
            if out is not None:
                name = explanation.image_id.replace("/", "_")
                (out / f"{name}.explained.png").write_bytes(explanation.overlay_png)
        console.print(table)
        console.print(f"{answered.name} version {answered.version}, {answered.digest}", highlight=False)


@app.command()
def describe(context: typer.Context, images: Images, model: Model = "", version: Version = 0) -> None:
    """Say in words what the model's decisions about pictures rest on."""
    with failures_told(), context.obj.client() as client:
        named = _named(images)
        answered, explanations = client.explain(model or _only_model(client), named, version)
        explained = explained_images(named, explanations)
        if not explained:
            raise PlumblineError("no picture shows positive evidence for its class: nothing to describe")
        reply = client.describe(answered, explained)
        for description in reply.images:
            told = f"{description.image_id} (says {description.target_label}): {description.text}"
            console.print(told, markup=False, highlight=False)
        for behaviour in reply.classes:
            console.print(behaviour.text, markup=False, highlight=False)
            for claim in behaviour.claims:
                console.print(f"  {_evidence(claim)}", markup=False, highlight=False, style="dim")


@app.command("ground")
def ground_phrases(
    context: typer.Context, images: Images, phrase: Phrases, out: Out = None, is_json: AsJson = False
) -> None:
    """Look for phrases in pictures: boxes and pixels."""
    ground(context, _named(images), phrase, out, is_json)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the served models and versions."""
    if context.invoked_subcommand:
        return
    with failures_told(), context.obj.client() as client:
        table = Table("model", "version", "champion", "answers", "classes", Column("digest", overflow="fold"))
        for served in client.models():
            marks = ["yes" if mark else "" for mark in (served.is_champion, served.is_ready)]
            repeats = f" (weights of {served.repeats_version})" if served.repeats_version else ""
            table.add_row(
                served.model.name,
                f"{served.model.version}{repeats}",
                *marks,
                ", ".join(served.labels),
                served.model.digest,
            )
        console.print(table)


@models_app.command("add")
def add_model(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="A Hugging Face image-classification folder.", file_okay=False)],
    name: Annotated[str, typer.Option(help="Name to serve it under.")],
) -> None:
    """Store a model bundle and serve it as the next version of a model."""
    with failures_told(), context.obj.client() as client:
        path, digest = store_bundle(context.obj.stack().store_root, name, folder)
        champions = [entry.model.version for entry in client.models() if entry.is_champion and entry.model.name == name]
        with console.status("loading and checking the model"):
            served = client.publish(name, path, champions[0] if champions else 0, f"add-{digest}")
        console.print(f"{served.name} version {served.version}, {served.digest}", highlight=False)
        newest = max(champions, default=0)
        if newest > served.version:
            console.print(f"the same bundle was added before; the champion stays version {newest}", highlight=False)


@models_app.command("rollback")
def roll_back_model(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, in words; kept in the audit log.")],
    model: Model = "",
    to: Annotated[
        int, typer.Option(min=0, help="Version to go back to; 0: the newest before the champion with other weights.")
    ] = 0,
    key: Annotated[str, typer.Option(help="Idempotency key; the same key rolls back once.")] = "",
) -> None:
    """Serve an older version's weights again, as the next version: numbers only grow."""
    with failures_told(), context.obj.client() as client:
        name = model or _only_model(client)
        champion = next((entry.model.version for entry in client.models(name) if entry.is_champion), 0)
        with console.status("loading and checking the model"):
            reply = client.roll_back(name, champion, reason, key or uuid.uuid4().hex, to)
        console.print(
            f"{name} version {reply.model.version} is served, with the weights of version {reply.repeats_version}, {reply.model.digest}",
            highlight=False,
        )


@app.command()
def report(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    out: Annotated[Path, typer.Option(dir_okay=False, help="The page to write.")] = Path("report.html"),
) -> None:
    """Write a job's report as one self-contained HTML page."""
    with failures_told(), context.obj.client() as client:
        with console.status("asking the services"):
            page = render(collect(client, job_id))
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page, encoding="utf-8")
        console.print(f"wrote {out}", highlight=False)


def _named(paths: Sequence[Path]) -> list[NamedImage]:
    """Each picture with its file's name, or with the whole path where two files share the name."""
    names = Counter(path.name for path in set(paths))
    return [(path.name if names[path.name] == 1 else str(path), path.read_bytes()) for path in dict.fromkeys(paths)]


def _evidence(claim: lvlm_pb.Claim) -> str:
    """Where a claim can be checked: its things, and the first of the segments that bear it out."""
    places = list(claim.segments or claim.image_ids)
    more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
    about = ", ".join(claim.things) or f"{len(claim.image_ids)} images"
    return f"{about}: {', '.join(places[:SHOWN_PLACES])}{more}"


def _wait_for_models(layout: StackLayout) -> None:
    """Until Triton has loaded what was published before; not for ever, for a model may be broken."""
    end = time.monotonic() + MODELS_TIMEOUT_S
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        while time.monotonic() < end and not all(served.is_ready for served in client.models()):
            time.sleep(0.2)


def _only_model(client: Client) -> str:
    names = sorted({served.model.name for served in client.models()})
    if len(names) != 1:
        raise PlumblineError(f"--model: expected one of {', '.join(names)}" if names else "no model is served")
    return names[0]


def _print_end(alignment: trainer_pb.Alignment) -> None:
    console.print(f"{state_name(alignment)}: {alignment.reason}", markup=False, highlight=False, soft_wrap=True)
    if alignment.published.version:
        console.print(f"{alignment.published.name} version {alignment.published.version} is served", highlight=False)

"""Commands of `plumbline`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from plumbline.certificates import CertificateFiles
from plumbline.cli.aligning import align, jobs
from plumbline.cli.auditing import audit_app
from plumbline.cli.explaining import explain
from plumbline.cli.grounding import AsJson, Out, Phrases, ground
from plumbline.cli.picture_files import Frame, Images, name_pictures
from plumbline.cli.pushing import critiques_app
from plumbline.cli.reviewing import review
from plumbline.cli.serving import models_app
from plumbline.cli.session import Model, Session, Version, console, failures_told, only_model
from plumbline.cli.specifying import specification_app
from plumbline.client import Client, explained_images
from plumbline.errors import PlumblineError
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.report import collect, render
from plumbline.stack.control import start_stack, stop_stack
from plumbline.stack.layout import StackLayout
from plumbline.whole_files import write_whole

MODELS_TIMEOUT_S = 30.0
SHOWN_PLACES = 6

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(models_app, name="models")
app.add_typer(audit_app, name="audit")
app.add_typer(critiques_app, name="critiques")
app.add_typer(specification_app, name="specification")
app.command()(review)


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


app.command()(align)
app.command()(jobs)
app.command()(explain)


@app.command()
def describe(context: typer.Context, images: Images, model: Model = "", version: Version = 0, frame: Frame = 0) -> None:
    """Say in words what the model's decisions about pictures rest on."""
    with failures_told(), context.obj.client() as client:
        named = name_pictures(images)
        answered, explanations = client.explain(model or only_model(client), named, version, frame=frame)
        explained = explained_images(named, explanations, frame)
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
    context: typer.Context,
    images: Images,
    phrase: Phrases,
    out: Out = None,
    is_json: AsJson = False,
    frame: Frame = 0,
) -> None:
    """Look for phrases in pictures: boxes and pixels."""
    with failures_told():
        named = name_pictures(images)
    ground(context, named, phrase, out, is_json, frame)


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
        write_whole(out, page.encode())
        console.print(f"wrote {out}", highlight=False)


def _evidence(claim: lvlm_pb.Claim) -> str:
    """Where a claim can be checked: its things, and the first of the segments that bear it out."""
    places = list(claim.segments or claim.image_ids)
    more = f" and {len(places) - SHOWN_PLACES} more" if len(places) > SHOWN_PLACES else ""
    about = ", ".join(claim.things) or f"{len(claim.image_ids)} images"
    return f"{about}: {', '.join(places[:SHOWN_PLACES])}{more}"


def _wait_for_models(layout: StackLayout) -> None:
    """Until Triton has loaded what was published before; not for ever, for a model may be broken."""
    end = time.monotonic() + MODELS_TIMEOUT_S
    certificates = CertificateFiles.from_environment("PLUMBLINE_")
    with Client(layout.explainer, layout.lvlm, layout.trainer, certificates=certificates) as client:
        while time.monotonic() < end and not all(served.is_ready for served in client.models()):
            time.sleep(0.2)

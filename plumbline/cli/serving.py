"""Served models on the terminal: list, show, add, roll back, compare in the shadow."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from plumbline.cli.picture_files import PICTURE_SUFFIXES, find_pictures, tell_name
from plumbline.cli.session import MAX_NUMBER, Model, Version, console, failures_told, only_model
from plumbline.client import Client, NamedImage
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.names import short_name
from plumbline.stack.bundles import store_model_folder

BASELINES = "baselines.safetensors"
BASELINE_COUNT = 20

models_app = typer.Typer(
    invoke_without_command=True, help="List the served models, show, add or compare one, or roll one back."
)


@models_app.callback()
def models(context: typer.Context) -> None:
    """List the served models and versions."""
    if context.invoked_subcommand is None:
        list_models(context)


@models_app.command("list")
def list_models(context: typer.Context) -> None:
    """List the served models and versions."""
    with failures_told(), context.obj.client() as client:
        table = Table("model", "version", "champion", "answers", "classes", Column("digest", overflow="fold"))
        for served in client.models():
            champion = "yes" if served.is_champion else "shadow" if served.is_shadow else ""
            repeats = f" (weights of {served.repeats_version})" if served.repeats_version else ""
            table.add_row(
                served.model.name,
                f"{served.model.version}{repeats}",
                champion,
                "yes" if served.is_ready else "",
                escape(", ".join(served.labels)),
                served.model.digest,
            )
        console.print(table)


@models_app.command("show")
def show_model(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Version = 0,
) -> None:
    """Show a served version: its classes, its digest and where it came from."""
    with failures_told(), context.obj.client() as client:
        served = _find(client.models(name), name, version)
        table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
        for row in (
            ("model", f"{served.model.name} version {served.model.version}"),
            ("champion", "yes" if served.is_champion else "no"),
            ("answers", "yes" if served.is_ready else "no"),
            ("weights of", f"version {served.repeats_version}" if served.repeats_version else ""),
            ("digest", served.model.digest),
            ("classes", ", ".join(served.labels)),
            ("provenance", json.dumps(json.loads(served.provenance_json or "{}"), indent=2, ensure_ascii=False)),
        ):
            if row[1]:
                table.add_row(*map(escape, row))
        console.print(table, highlight=False)


@models_app.command("add")
def add_model(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(help="A Hugging Face image-classification folder, weights as safetensors.", file_okay=False),
    ],
    name: Annotated[str, typer.Option(help="Name to serve it under.")],
    baselines: Annotated[
        Path | None,
        typer.Option(
            help="Folder of pictures like those to be classified, which attributions are counted from; needed unless the model folder has a "
            "baselines.safetensors.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Check a model against transformers and against random parameters, and serve it as the next version."""
    with failures_told(), context.obj.client() as client:
        if not baselines and not (folder / BASELINES).is_file():
            raise PlumblineError(
                f"--baselines: {folder} has no {BASELINES}; expected a folder of pictures like those to be classified"
            )
        pictures = _choose_pictures(baselines) if baselines else []
        path, digest = store_model_folder(context.obj.stack().store_root, name, folder)
        champion = _champion(served for served in client.models() if served.model.name == name)
        with console.status("loading and checking the model"):
            imported = client.import_model(name, path, pictures, champion, _key(digest, pictures))
        served, golden, randomised = imported.model, imported.golden_request, imported.parameter_randomisation
        method = short_name(explainer_pb.AttributionMethod, randomised.method)
        for line in (
            f"{served.name} version {served.version}, {served.digest}",
            f"golden request: {golden.picture_count} pictures, logits within {golden.largest_difference:.1g} of transformers' "
            f"(at most {golden.tolerance:g})",
            f"parameter randomisation: maps ({method}) correlate by {randomised.rank_correlation:.2f} with those of random parameters "
            f"(at most {randomised.bound:g})",
        ):
            console.print(line, highlight=False, soft_wrap=True)
        if champion > served.version:
            console.print(f"the same bundle was added before; the champion stays version {champion}", highlight=False)


@models_app.command("rollback")
def roll_back_model(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, in words; kept in the audit log.")],
    model: Model = "",
    to: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_NUMBER, help="Version to go back to; 0: the newest before the champion with other weights."
        ),
    ] = 0,
    key: Annotated[str, typer.Option(help="Idempotency key; the same key rolls back once.")] = "",
) -> None:
    """Serve an older version's weights again, as the next version: numbers only grow."""
    with failures_told(), context.obj.client() as client:
        name = model or only_model(client)
        champion = _champion(client.models(name))
        with console.status("loading and checking the model"), _doubt_told(name, champion):
            reply = client.roll_back(name, champion, reason, key or uuid.uuid4().hex, to)
        console.print(
            f"{name} version {reply.model.version} is served, with the weights of version {reply.repeats_version}, {reply.model.digest}",
            highlight=False,
        )


@contextmanager
def _doubt_told(name: str, champion: int) -> Iterator[None]:
    """Say of a rollback without an answer that it may have been done: asked for once more, it would go back from there, to the weights it was to leave."""
    try:
        yield
    except PlumblineError as error:
        if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            raise
        raise PlumblineError(
            f"{error}; it may be done all the same: ask again only if `plumbline models` still shows version {champion} of {name} as the champion",
            error.code,
        ) from error


@models_app.command("shadow")
def shadow_model(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the model.")],
    version: Annotated[
        int, typer.Argument(min=0, max=MAX_NUMBER, help="Version to compare with the champion from now on.")
    ] = 0,
    job: Annotated[
        str, typer.Option(help="A job whose challenger is to be served for this, such as a rejected one.")
    ] = "",
    is_off: Annotated[bool, typer.Option("--off", help="End the comparison.")] = False,
) -> None:
    """Let a version answer a share of the champion's requests unseen; with the name alone: tell how the two compare."""
    with failures_told(), context.obj.client() as client:
        if sum(map(bool, (version, job, is_off))) > 1:
            raise PlumblineError("expected one of VERSION, --job and --off")
        if job:
            champion = _champion(client.models(name))
            with console.status("loading and checking the model"):
                served = client.publish(
                    name, _find_challenger(client, job, name), champion, f"shadow-{job}", as_shadow=True
                )
            client.set_shadow(name, served.version)  # it may have been served before, and ended
            console.print(f"{name} version {served.version} is the shadow, {served.digest}", highlight=False)
        elif version or is_off:
            served = client.set_shadow(name, version)
            told = f"version {served.version} is the shadow, {served.digest}" if version else "has no shadow"
            console.print(f"{name} {told}", highlight=False)
        else:
            _print_comparison(name, client.shadow(name))


def _find_challenger(client: Client, job_id: str, name: str) -> str:
    """Where in the store the bundle lies that a job made of the model."""
    job = client.job(job_id)
    path = json.loads(job.metrics_json or "{}").get("bundle_path", "")
    if job.model.name != name or not path:
        raise PlumblineError(f"--job: job {job_id} has made no version of '{name}'")
    return path


def _print_comparison(name: str, found: explainer_pb.GetShadowResponse) -> None:
    if found.shadow.version:
        console.print(
            f"{name} version {found.shadow.version} is the shadow, of {found.share:.0%} of the champion's requests",
            highlight=False,
        )
    else:
        console.print(f"{name} has no shadow", highlight=False)
    if not found.shadow_version:
        return
    since = found.since.ToDatetime().strftime("%Y-%m-%d %H:%M")
    for line in (
        f"version {found.shadow_version} against version {found.champion_version} since {since} (UTC):",
        f"{found.picture_count} pictures, the same label for {found.agreement:.1%}, probabilities {found.mean_difference:.4f} apart; "
        f"{found.failed_count} failed, {found.dropped_count} dropped",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    labels = list(found.labels)
    table = Table(f"version {found.champion_version} says", *(escape(f"{label} in the shadow") for label in labels))
    for row, label in enumerate(labels):
        counts = found.confusion[row * len(labels) : (row + 1) * len(labels)]
        table.add_row(escape(label), *map(str, counts))
    console.print(table)


def _champion(served: Iterable[explainer_pb.ServedModel]) -> int:
    """The version of a model that is its champion, of its served versions; 0 when none is."""
    return next((entry.model.version for entry in served if entry.is_champion), 0)


def _find(served: Sequence[explainer_pb.ServedModel], name: str, version: int) -> explainer_pb.ServedModel:
    for entry in served:
        if entry.model.version == version or (not version and entry.is_champion):
            return entry
    raise PlumblineError(f"'{name}' has no version {version}" if version else f"'{name}' has no champion")


def _choose_pictures(folder: Path) -> list[NamedImage]:
    """Pictures from all over a folder and those below it, by name, never more than `BASELINE_COUNT`."""
    found = find_pictures(folder)
    if len(found) < 2:
        raise PlumblineError(
            f"--baselines: {len(found)} pictures in {folder}; expected two or more files {', '.join(PICTURE_SUFFIXES)}"
        )
    count = min(len(found), BASELINE_COUNT)
    chosen = [found[index * (len(found) - 1) // (count - 1)] for index in range(count)]
    return [(tell_name(str(path.relative_to(folder))), path.read_bytes()) for path in chosen]


def _key(digest: str, pictures: Sequence[NamedImage]) -> str:
    """The same for the same model with the same pictures, so that adding it again adds nothing."""
    total = hashlib.sha256(digest.encode())
    for _, data in pictures:
        total.update(hashlib.sha256(data).digest())
    return f"add-{total.hexdigest()}"

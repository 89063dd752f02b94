"""A job's review on the terminal: who looks at what, what was decided, and the end of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from plumbline.cli.session import console, failures_told
from plumbline.common.v1 import critique_pb2
from plumbline.errors import PlumblineError
from plumbline.labelling import load_json, read_batches, read_critique
from plumbline.names import short_name
from plumbline.report import render_review
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.whole_files import write_whole

MAX_DECISIONS = 1000
CALL_BYTES = 16 * 2**20
SHORT_DIGEST = 12
_PREFIX = "sha256:"

Digests = list[str] | None


def review(
    context: typer.Context,
    job_id: Annotated[str, typer.Argument(help="The job's id.")],
    page: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the pictures with what was said of them to this HTML page."),
    ] = None,
    reviewer: Annotated[str, typer.Option(help="Who decides; every decision and the end of a review need it.")] = "",
    accept: Annotated[
        Digests,
        typer.Option(
            metavar="DIGEST",
            help="Picture whose critique counts as it is, or the first digits of it; may be given often.",
        ),
    ] = None,
    reject: Annotated[
        Digests, typer.Option(metavar="DIGEST", help="Picture whose critique neither trains nor measures; likewise.")
    ] = None,
    edit: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Critiques that count instead: a critique or batches as JSON.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; kept with each decision of this call.")] = "",
    accept_rest: Annotated[
        bool, typer.Option("--accept-rest", help="With --finish: critiques without a decision count as they are.")
    ] = False,
    finish: Annotated[bool, typer.Option("--finish", help="End the review and send the job to training.")] = False,
) -> None:
    """Show what was said of a job's pictures; accept, reject or edit it, and send the job on."""
    with failures_told(), context.obj.client() as client:
        _check_options(reviewer, [*(accept or ()), *(reject or ()), *(edit or ())], finish, accept_rest)
        pictures = list(client.critiques(job_id, with_pictures=False))
        decisions = _decide(pictures, accept or (), reject or (), edit or (), reason)
        for chunk in _in_calls(decisions):
            client.review(job_id, reviewer, chunk)
        if decisions:
            pictures = list(client.critiques(job_id, with_pictures=False))
        if page is not None:
            write_whole(page, render_review(client.job(job_id), client.critiques(job_id)).encode())
            console.print(f"wrote {page}", highlight=False)
        if finish:
            client.finish_review(job_id, reviewer, accept_rest)
            console.print(f"the review is finished; job {job_id} goes to training", highlight=False)
        elif page is None:
            _print(pictures)
        else:
            _print_counts(pictures)


def _check_options(reviewer: str, decided: Sequence[object], finish: bool, accept_rest: bool) -> None:
    if (decided or finish) and not reviewer.strip():
        raise PlumblineError("--reviewer: expected the name of who decides")
    if accept_rest and not finish:
        raise PlumblineError("--accept-rest: only with --finish, for nothing is decided by it before")


def _decide(
    pictures: Sequence[trainer_pb.CritiquedImage],
    accept: Sequence[str],
    reject: Sequence[str],
    edit: Sequence[Path],
    reason: str,
) -> list[trainer_pb.PictureDecision]:
    digests = [picture.critique.image_digest for picture in pictures]
    decisions = [
        trainer_pb.PictureDecision(image_digest=_find(digests, asked, option), decision=decision, reason=reason)
        for option, decision, asked_digests in (
            ("--accept", trainer_pb.REVIEW_DECISION_ACCEPT, accept),
            ("--reject", trainer_pb.REVIEW_DECISION_REJECT, reject),
        )
        for asked in asked_digests
    ]
    for path in edit:
        for critique in _read_edits(path):
            decisions.append(
                trainer_pb.PictureDecision(
                    image_digest=critique.image_digest,
                    decision=trainer_pb.REVIEW_DECISION_EDIT,
                    reason=reason,
                    edit=critique,
                )
            )
    return decisions


def _find(digests: Sequence[str], asked: str, option: str) -> str:
    """The one digest that begins as asked."""
    if not asked.removeprefix(_PREFIX):  # every digest begins so, that of a job's only picture too
        raise PlumblineError(f"{option}: expected the first digits of a picture's digest, got none")
    found = [digest for digest in digests if digest.removeprefix(_PREFIX).startswith(asked.removeprefix(_PREFIX))]
    if len(found) != 1:
        what = "no critiqued picture has" if not found else f"{len(found)} pictures have"
        raise PlumblineError(f"{option} {asked}: {what} a digest that begins so")
    return found[0]


def _read_edits(path: Path) -> list[critique_pb2.Critique]:
    """The critiques of a file: one alone, a list of them, or batches. The trainer checks them and says whose they are: the reviewer's."""
    content = load_json(path)
    contents: list[Any] = content if isinstance(content, list) else [content]
    if all(isinstance(entry, dict) and "critiques" in entry for entry in contents):
        contents = [critique for batch in contents for critique in read_batches(path, batch, batch.get("job_id"))]
    try:
        return [read_critique(entry) for entry in contents]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise PlumblineError(f"{path}: expected critiques (docs/critique-batch.schema.json): {error!r}") from error


def _in_calls(decisions: Sequence[trainer_pb.PictureDecision]) -> list[list[trainer_pb.PictureDecision]]:
    """Decisions in portions that a call takes."""
    calls: list[list[trainer_pb.PictureDecision]] = []
    size = 0
    for decision in decisions:
        if not calls or len(calls[-1]) == MAX_DECISIONS or size + decision.ByteSize() > CALL_BYTES:
            calls.append([])
            size = 0
        calls[-1].append(decision)
        size += decision.ByteSize()
    return calls


def _print(pictures: Sequence[trainer_pb.CritiquedImage]) -> None:
    table = Table(Column("digest", no_wrap=True), "picture", "class", "verdicts", "review", "why")
    for picture in pictures:
        critique = picture.critique
        digest = critique.image_digest.removeprefix(_PREFIX)[:SHORT_DIGEST]
        names = Counter(short_name(critique_pb2.Verdict, verdict.verdict).lower() for verdict in critique.verdicts)
        verdicts = ", ".join(f"{count} {name}" for name, count in names.items()) or critique.failure or "none"
        row = [digest, critique.image_id, critique.true_label, verdicts, _review(picture), picture.review.reason]
        table.add_row(*map(escape, row))
    console.print(table)
    _print_counts(pictures)


def _print_counts(pictures: Sequence[trainer_pb.CritiquedImage]) -> None:
    counts = Counter(picture.review.decision for picture in pictures)
    console.print(
        f"{len(pictures)} critiques: {counts[trainer_pb.REVIEW_DECISION_ACCEPT]} accepted, "
        f"{counts[trainer_pb.REVIEW_DECISION_REJECT]} rejected, {counts[trainer_pb.REVIEW_DECISION_EDIT]} edited, "
        f"{counts[trainer_pb.REVIEW_DECISION_UNSPECIFIED]} without a decision",
        highlight=False,
    )


def _review(picture: trainer_pb.CritiquedImage) -> str:
    if not picture.HasField("review"):
        return ""
    name = short_name(trainer_pb.ReviewDecision, picture.review.decision).lower()
    return f"{name}, {picture.review.reviewer}"

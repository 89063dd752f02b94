"""The audit log on the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer
from google.protobuf import timestamp_pb2
from rich.markup import escape
from rich.table import Column, Table

from plumbline.cli.session import console, failures_told
from plumbline.errors import PlumblineError
from plumbline.names import short_name
from plumbline.trainer.v1 import audit_service_pb2 as audit_pb

audit_app = typer.Typer(no_args_is_help=True, help="Who did what, when and why, and what was live when.")


@audit_app.command("list")
def list_events(
    context: typer.Context,
    job: Annotated[str, typer.Option(help="Only events of this job and of the versions it made.")] = "",
    model: Annotated[str, typer.Option("--model", "-m", help="Only events of this model and of jobs on it.")] = "",
    most: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> None:
    """List events, newest first."""
    with failures_told(), context.obj.client() as client:
        table = Table("no.", Column("at (UTC)", no_wrap=True), "what", "model", "job", "by", "why")
        for event in islice(client.audit_events(job, model), most):
            row = [f"{event.number}", _time(event.at), _action(event), _version(event), event.job_id, _who(event)]
            table.add_row(*map(escape, row), escape(event.reason))
        console.print(table)


@audit_app.command()
def verify(
    context: typer.Context,
    kept: Annotated[
        str, typer.Option(metavar="NUMBER:HASH", help="What this command said of the log before, noted elsewhere.")
    ] = "",
) -> None:
    """Check that the log is as it was written; status 1 with the event at fault when it is not."""
    with failures_told(), context.obj.client() as client:
        number, separator, digest = kept.partition(":")
        if kept and not (number.isdecimal() and int(number) < 2**63 and separator and digest):
            raise PlumblineError(f"--kept: expected NUMBER:HASH as `plumbline audit verify` prints it, got '{kept}'")
        with console.status("reading the audit log"):
            found = client.verify_audit(int(number or 0), digest)
        if found.HasField("fault"):
            kind = short_name(audit_pb.AuditFaultKind, found.fault.kind)
            console.print(
                f"event {found.fault.number} is at fault: {kind}: {found.fault.description}", markup=False, style="red"
            )
            raise typer.Exit(1)
        console.print(f"{found.number} events are as they were written", highlight=False)
        if found.number:
            console.print(f"to note elsewhere: {found.number}:{found.hash}", highlight=False, soft_wrap=True)


@audit_app.command()
def live(
    context: typer.Context,
    model: Annotated[str, typer.Option("--model", "-m", help="Name of the model.")],
    at: Annotated[
        str, typer.Option(help="When, such as 2026-11-26T12:00; UTC unless it names a zone. Default: now.")
    ] = "",
) -> None:
    """Tell which version was live, and what led to it."""
    with failures_told(), context.obj.client() as client:
        found = client.live_version(model, _read_time(at) if at else None)
        event, lineage = found.event, found.event.lineage
        until = _time(found.until) if found.HasField("until") else "now"
        told = {
            "live": f"{_version(event)} from {_time(event.at)} to {until} (UTC)",
            "weights": event.model.digest,
            "why": event.reason or found.alignment.reason,
            "by": _who(event),
            "event": f"{event.number}, {_action(event)}",
            "job": event.job_id,
            "made from": lineage.parent_digest,
            "specification": lineage.specification_digest,
            "critiques": lineage.critiques_digest,
            "data": lineage.data_digest,
            "code": lineage.code_version,
        }
        for name, text in told.items():
            if text:
                console.print(f"{name:13} {text}", markup=False, highlight=False, soft_wrap=True)


def _read_time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise PlumblineError(f"--at: expected a time such as 2026-11-26T12:00, got '{text}'") from error


def _time(moment: timestamp_pb2.Timestamp) -> str:
    return moment.ToDatetime().strftime("%Y-%m-%d %H:%M:%S")


def _action(event: audit_pb.AuditEvent) -> str:
    return short_name(audit_pb.AuditAction, event.action).lower().replace("_", " ")


def _version(event: audit_pb.AuditEvent) -> str:
    repeats = f", weights of {event.repeats_version}" if event.repeats_version else ""
    return f"{event.model.name} {event.model.version}{repeats}"


def _who(event: audit_pb.AuditEvent) -> str:
    return f"{event.actor} for {event.caller}" if event.caller else event.actor

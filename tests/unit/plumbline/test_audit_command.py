"""`plumbline audit` against the real audit service over gRPC, on a real store."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from typer.testing import Result

from plumbline.trainer.v1 import audit_service_pb2_grpc as rpc
from services.common.runtime.audit_log import AuditAction, AuditEntry, AuditLog, Lineage
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.grpc_status import ErrorInterceptor
from services.trainer.adapters.job_record import JobRecord
from services.trainer.audit_servicer import AuditServicer
from services.trainer.handlers.auditing import Auditing
from services.trainer.handlers.watching import Watching
from tests.support.commands import run_command
from tests.unit.trainer.fakes import LastProgress


@dataclass
class Stage:
    """A log that tells of two versions of `films`, and the service that reads it."""

    root: Path
    address: str

    def run(self, *command: str) -> Result:
        return run_command("audit", *command, trainer=self.address)

    def kept(self) -> str:
        return self.run("verify").stdout.rpartition("to note elsewhere: ")[2].strip()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    store = FolderStore(tmp_path)
    log = AuditLog(store)
    for version, action in ((1, AuditAction.MODEL_PUBLISHED), (2, AuditAction.MODEL_ROLLED_BACK)):
        content = {"key": f"{version}", "action": action, "actor": "explainer", "caller": "anna", "reason": "[worse]"}
        lineage = Lineage(model_digest="sha256:m", data_digest="sha256:d")
        log.append(AuditEntry(**content, model_name="films", model_version=version, lineage=lineage))
    started, loop = threading.Event(), asyncio.new_event_loop()
    stopped = asyncio.Event()
    ports: list[int] = []

    async def serve() -> None:
        server = grpc.aio.server(interceptors=[ErrorInterceptor()])
        servicer = AuditServicer(Auditing(AuditLog(store)), Watching(JobRecord(store), LastProgress()))
        rpc.add_AuditServiceServicer_to_server(servicer, server)
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        started.set()
        await stopped.wait()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield Stage(tmp_path, f"127.0.0.1:{ports[0]}")
    loop.call_soon_threadsafe(stopped.set)
    thread.join()
    loop.close()


def test_events_are_listed_newest_first_with_who_and_why(stage):
    result = stage.run("list")
    assert result.exit_code == 0, result.output
    assert result.stdout.index("model rolled back") < result.stdout.index("model published")
    assert "explainer for anna" in result.stdout
    assert "[worse]" in result.stdout
    assert "films" not in stage.run("list", "--model", "skin").stdout
    assert stage.run("list", "--most", "1").stdout.count("films") == 1


def test_a_whole_log_is_status_0_with_what_to_note_elsewhere(stage):
    result = stage.run("verify")
    assert (result.exit_code, "2 events" in result.stdout) == (0, True)
    assert stage.run("verify", "--kept", stage.kept()).exit_code == 0


def test_a_changed_event_is_status_1_and_told(stage):
    path = stage.root / "audit" / "00000001.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"reason": "better"}))
    result = stage.run("verify")
    assert (result.exit_code, "event 1 is at fault: CHANGED" in result.stdout) == (1, True)


def test_a_log_written_anew_is_status_1_against_what_was_noted(stage):
    kept = stage.kept()
    for path in [*(stage.root / "audit").glob("*.json"), *(stage.root / "audit" / "keys").iterdir()]:
        path.unlink()
    for version in (1, 2):
        entry = AuditEntry(key=f"{version}", action=AuditAction.MODEL_PUBLISHED, actor="nobody")
        AuditLog(FolderStore(stage.root)).append(entry)
    assert stage.run("verify").exit_code == 0
    result = stage.run("verify", "--kept", kept)
    assert (result.exit_code, "event 2 is at fault: CHANGED" in result.stdout) == (1, True)


def test_what_was_live_is_told_with_what_it_came_from(stage):
    result = stage.run("live", "--model", "films")
    assert result.exit_code == 0, result.output
    for told in (
        "films 2 from",
        "to now",
        "sha256:m",
        "sha256:d",
        "[worse]",
        "explainer for anna",
        "model rolled back",
    ):
        assert told in result.stdout
    log = AuditLog(FolderStore(stage.root))
    at = log.read(1).at
    assert "films 1 from" in stage.run("live", "--model", "films", "--at", at.isoformat()).stdout
    # Without a zone it is UTC, wherever one sits.
    assert "films 1 from" in stage.run("live", "--model", "films", "--at", at.replace(tzinfo=None).isoformat()).stdout


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["live", "--model", "films", "--at", "yesterday"], "--at"),
        (["live", "--model", "films", "--at", "1999-01-01T12:00"], "no event tells"),
        (["live", "--model", "nobody"], "no event tells"),
        (["live", "--model", "films", "--at", "9999-12-31T23:59-12:00"], "--at"),
        (["verify", "--kept", "17"], "--kept"),
        (["verify", "--kept", f"{2**63}:abc"], "--kept"),
    ],
)
def test_a_wrong_question_is_status_1_with_what_was_expected(stage, command, told):
    result = stage.run(*command)
    assert (result.exit_code, told in result.stderr) == (1, True)

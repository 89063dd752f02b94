"""Rollback and audit log on a real Triton, over real gRPC."""

from __future__ import annotations

import json
import shutil
from datetime import UTC
from pathlib import Path

import psutil
import pytest
import torch
from typer.testing import CliRunner

from plumbline.cli import app
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.stack.bundles import store_bundle
from plumbline.trainer.v1 import audit_service_pb2 as pb
from services.common.runtime.audit_log import AuditLog
from services.common.runtime.folder_store import FolderStore
from services.common.vision.model_bundle import PREPROCESSING, load_bundle, save_bundle
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing
from services.explainer.ports import Publication
from tests.conftest import Served
from tests.support.waiting import wait_for

RESTART_S = 120.0
pytestmark = pytest.mark.timeout(900)  # Triton starts a process per version, and that takes a minute on a busy machine


@pytest.fixture
def rolled(served: Served, tmp_path: Path) -> tuple[str, Client]:
    """A model under a name of its own with two versions, the second one with other weights; and a client that says who asks."""
    name = f"rolled-{tmp_path.name.replace('_', '-').lower()[:40]}"
    first = served.layout.models / served.name / "1" / "bundle"
    bundle = load_bundle(first)
    with torch.no_grad():
        for parameter in bundle.model.parameters():
            parameter.neg_()
    preprocessing = json.loads((first / PREPROCESSING).read_text())
    provenance = {"made_by": "test", "data_digest": "sha256:d", "code_version": "0.1.0+c"}
    save_bundle(tmp_path / "other", bundle.model, preprocessing, bundle.baselines, provenance, "# other\n")
    layout = served.layout
    with Client(layout.explainer, layout.lvlm, layout.trainer, "anna") as client:
        for number, folder in enumerate((first, tmp_path / "other")):
            client.publish(name, store_bundle(layout.store, name, folder)[0], number, f"version-{number + 1}")
        yield name, client


def is_answering(client: Client) -> bool:
    try:
        return bool(client.models())
    except PlumblineError:
        return False


def answers(client: Client, served: Served, name: str, version: int = 0) -> list[list[float]]:
    return [list(prediction.probabilities) for prediction in client.predict(name, served.pictures[:8], version)]


def events(client: Client, name: str) -> list[tuple[str, int, str]]:
    told = [(pb.AuditAction.Name(e.action), e.model.version, e.caller) for e in client.audit_events(model_name=name)]
    return [(action.removeprefix("AUDIT_ACTION_"), version, caller) for action, version, caller in told]


def test_a_rollback_serves_the_old_weights_as_the_next_version_and_the_log_tells_what_was_live_when(served, rolled):
    name, client = rolled
    first, second = (answers(client, served, name, version) for version in (1, 2))
    assert first != second
    reply = client.roll_back(name, 2, "worse on new films", "back")
    listed = {entry.model.version: entry for entry in client.models(name)}
    assert (reply.model.version, reply.repeats_version) == (3, 1)
    assert reply.model.digest == listed[1].model.digest != listed[2].model.digest
    assert [(entry.is_champion, entry.is_ready, entry.repeats_version) for entry in listed.values()] == [
        (False, True, 0),
        (False, True, 0),
        (True, True, 1),
    ]
    assert answers(client, served, name) == first
    assert client.roll_back(name, 2, "worse on new films", "back") == reply

    told = [("MODEL_ROLLED_BACK", 3, "anna"), ("MODEL_PUBLISHED", 2, "anna"), ("MODEL_PUBLISHED", 1, "anna")]
    assert events(client, name) == told
    times = [event.at.ToDatetime(tzinfo=UTC) for event in client.audit_events(model_name=name)]
    for at, version in zip(times, (3, 2, 1), strict=True):
        assert client.live_version(name, at).event.model.version == version
    now = client.live_version(name)
    assert (now.event.model.version, now.event.repeats_version, now.event.reason) == (3, 1, "worse on new films")
    assert now.event.model.digest == reply.model.digest
    assert client.live_version(name, times[1]).event.lineage.data_digest == "sha256:d"
    assert not client.verify_audit().HasField("fault")


def test_a_wrong_rollback_is_refused_and_the_champion_stays(served):
    name, client = served.name, served.client
    before, listed = events(client, name), list(client.models(name))
    champion = next(entry.model.version for entry in listed if entry.is_champion)
    for asked, code, field in (
        ((name, champion + 9, "why", "a"), "ABORTED", "expected_champion_version"),
        ((name, champion, "why", "a", champion + 9), "NOT_FOUND", "version"),
        ((name, champion, "why", "a", champion), "INVALID_ARGUMENT", "version"),
        ((name, champion, "", "a"), "INVALID_ARGUMENT", "reason"),
        ((name, champion, "why", ""), "INVALID_ARGUMENT", "idempotency_key"),
        (("nobody", champion, "why", "a"), "NOT_FOUND", "name"),
    ):
        with pytest.raises(PlumblineError, match=field) as caught:
            client.roll_back(*asked)
        assert caught.value.code == code
    assert (events(client, name), list(client.models(name))) == (before, listed)


@pytest.mark.slow
def test_a_killed_explainer_tells_after_its_restart_what_came_of_an_announcement(served, rolled):
    name, client = rolled
    repository = FolderRepository(served.layout.models)
    announcing = Announcing(AuditLog(FolderStore(served.layout.store)), repository)
    # Where a publisher stands that is killed before the pointer moves, and a pointer that somebody moved without a word.
    added = repository.add_version(name, repository.bundle(name, 1), "cut off")
    announcing.announce(added, Publication("cut off"))
    psutil.Process(served.layout.read_pids()["explainer"]).kill()
    wait_for(lambda: events(client, name)[0] == ("PUBLICATION_UNDONE", 3, ""), RESTART_S)
    assert client.live_version(name).event.model.version == 2
    repository.set_champion(name, 3)
    repository.add_version(name, repository.bundle(name, 2), "by hand")
    repository.set_champion(name, 4)
    wait_for(lambda: events(client, name)[0] == ("MODEL_FOUND_LIVE", 4, ""), 60)
    assert client.live_version(name).event.model.version == 4
    wait_for(lambda: is_answering(client), RESTART_S)  # for the tests after this one


@pytest.mark.slow
def test_commands_roll_back_and_verify_and_tell_a_changed_event_with_status_1(served, rolled):
    name, client = rolled

    def run(*command: str):
        return CliRunner().invoke(app, ["--state", str(served.layout.state), *command], env={"COLUMNS": "200"})

    done = run("models", "rollback", "--model", name, "--reason", "worse on new films")
    assert (done.exit_code, f"{name} version 3 is served, with the weights of version 1" in done.stdout) == (0, True)
    assert "3 (weights of 1)" in run("models").stdout
    assert "worse on new films" in run("audit", "live", "--model", name).stdout
    whole = run("audit", "verify")
    assert whole.exit_code == 0, whole.output
    number = next(event.number for event in client.audit_events(model_name=name))
    path = served.layout.store / "audit" / f"{number:08d}.json"
    kept = path.with_suffix(".kept")
    shutil.copy(path, kept)
    try:
        path.write_text(path.read_text().replace("worse on new films", "better on new films"))
        broken = run("audit", "verify")
        assert (broken.exit_code, f"event {number} is at fault: CHANGED" in broken.stdout) == (1, True)
    finally:
        kept.replace(path)
    assert run("audit", "verify").exit_code == 0

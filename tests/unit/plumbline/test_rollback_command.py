"""What `plumbline models rollback` asks; the explainer is a stand-in that keeps the request and who made it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from typer.testing import CliRunner

from plumbline.cli import app
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc

NOWHERE = "127.0.0.1:1"


class Explainer(rpc.ExplainerServiceServicer):
    """Serves `films` in two versions and takes every rollback."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[tuple[pb.RollBackModelRequest, dict]] = []

    def ListModels(self, request, context):
        models = [{"model": {"name": "films", "version": n}, "is_champion": n == 2} for n in (1, 2)]
        return pb.ListModelsResponse(models=models)

    def RollBackModel(self, request, context):
        self.asked.append((request, dict(context.invocation_metadata())))
        return pb.RollBackModelResponse(model={"name": "films", "version": 3}, repeats_version=1)


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    server, made = grpc.server(ThreadPoolExecutor(1)), Explainer()
    rpc.add_ExplainerServiceServicer_to_server(made, server)
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield made
    server.stop(None).wait()


def test_the_only_models_champion_is_rolled_back_for_a_reason_by_who_is_at_the_keyboard(explainer, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "änne")
    addresses = ["--explainer", explainer.address, "--lvlm", NOWHERE, "--trainer", NOWHERE]
    command = ["models", "rollback", "--reason", "worse on new films", "--to", "1", "--key", "back"]
    result = CliRunner().invoke(app, [*addresses, *command], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "films version 3 is served, with the weights of version 1" in result.stdout
    ((request, metadata),) = explainer.asked
    assert request == pb.RollBackModelRequest(
        name="films", version=1, expected_champion_version=2, reason="worse on new films", idempotency_key="back"
    )
    assert metadata["plumbline-caller-bin"].decode() == "änne"


def test_a_rollback_without_a_reason_is_not_asked_for(explainer):
    addresses = ["--explainer", explainer.address, "--lvlm", NOWHERE, "--trainer", NOWHERE]
    assert CliRunner().invoke(app, [*addresses, "models", "rollback"]).exit_code == 2
    assert explainer.asked == []

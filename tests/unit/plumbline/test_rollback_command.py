"""What `plumbline models rollback` asks; the explainer is a stand-in that keeps the request and who made it."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from tests.support.commands import run_command, serve


class Explainer(rpc.ExplainerServiceServicer):
    """Serves `films` in two versions and takes every rollback."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[tuple[pb.RollBackModelRequest, dict]] = []
        self.refusal: grpc.StatusCode | None = None

    def ListModels(self, request, context):
        models = [{"model": {"name": "films", "version": n}, "is_champion": n == 2} for n in (1, 2)]
        return pb.ListModelsResponse(models=models)

    def RollBackModel(self, request, context):
        self.asked.append((request, dict(context.invocation_metadata())))
        if self.refusal:
            context.abort(self.refusal, "the words")
        return pb.RollBackModelResponse(model={"name": "films", "version": 3}, repeats_version=1)


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    made = Explainer()
    with serve(made) as made.address:
        yield made


def test_the_only_models_champion_is_rolled_back_for_a_reason_by_who_is_at_the_keyboard(explainer, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "änne")
    asked = ["--reason", "worse on new films", "--to", "1", "--key", "back"]
    result = run_command("models", "rollback", *asked, explainer=explainer.address)
    assert result.exit_code == 0, result.output
    assert "films version 3 is served, with the weights of version 1" in result.stdout
    ((request, metadata),) = explainer.asked
    assert request == pb.RollBackModelRequest(
        name="films", version=1, expected_champion_version=2, reason="worse on new films", idempotency_key="back"
    )
    assert metadata["plumbline-caller-bin"].decode() == "änne"


def test_a_rollback_without_a_reason_is_not_asked_for(explainer):
    assert run_command("models", "rollback", explainer=explainer.address).exit_code == 2
    assert explainer.asked == []


@pytest.mark.parametrize(
    ("refusal", "is_doubtful"),
    [
        (grpc.StatusCode.UNAVAILABLE, True),
        (grpc.StatusCode.DEADLINE_EXCEEDED, True),
        (grpc.StatusCode.CANCELLED, True),
        (grpc.StatusCode.ABORTED, False),
    ],
)
def test_a_rollback_that_may_have_been_done_is_not_to_be_asked_for_blindly_again(explainer, refusal, is_doubtful):
    explainer.refusal = refusal
    result = run_command("models", "rollback", "--reason", "worse", explainer=explainer.address)
    assert result.exit_code == 1
    doubt = "ask again only if `plumbline models` still shows version 2 of films as the champion"
    assert (doubt in result.stderr) == is_doubtful


def test_words_in_another_encoding_than_the_terminals_are_told(explainer):
    result = run_command("models", "rollback", "--reason", "f\udcfcr neue Filme", explainer=explainer.address)
    assert (result.exit_code, explainer.asked) == (1, [])
    assert "error: expected UTF-8, got 'f\\udcfcr neue Filme'" in result.stderr

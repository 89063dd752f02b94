"""What `plumbline models` shows and asks; the explainer is a stand-in that keeps the request, the folder and the store are real."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from click.testing import Result

from plumbline.cli.session import Session
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.stack.layout import StackLayout
from tests.support.commands import run_command, serve
from tests.support.hugging_face_folders import make_pictures, write_model_folder


class Explainer(rpc.ExplainerServiceServicer):
    """Serves `films` in two versions, of which the first is the champion, and takes every import."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[pb.ImportModelRequest] = []

    def ListModels(self, request, context):
        if request.name not in ("", "films"):
            context.abort(grpc.StatusCode.NOT_FOUND, "name: no such model")
        return pb.ListModelsResponse(
            models=[
                pb.ServedModel(
                    model={"name": "films", "version": number, "digest": f"sha256:{number}"},
                    is_champion=number == 1,
                    is_ready=True,
                    labels=["clear", "[ill]"],
                    provenance_json=json.dumps({"import": {"architecture": f"Net{number}"}}),
                )
                for number in (1, 2)
            ]
        )

    def ImportModel(self, request, context):
        self.asked.append(request)
        return pb.ImportModelResponse(
            model={"name": request.name, "version": 2, "digest": "sha256:new"},
            golden_request={"picture_count": 4, "largest_difference": 2.5e-7, "tolerance": 1e-3},
            parameter_randomisation={
                "method": "ATTRIBUTION_METHOD_DEEP_LIFT_SHAP", "rank_correlation": 0.04, "bound": 0.5, "picture_count": 4,
            },
        )  # fmt: skip


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    made = Explainer()
    with serve(made) as made.address:
        yield made


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackLayout:
    """A stack of which only the artifact store is looked for."""
    made = StackLayout.on_free_ports(tmp_path / "state")
    monkeypatch.setattr(Session, "stack", lambda session: made)
    return made


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "deep").mkdir(parents=True)
    for index, data in enumerate(make_pictures(30)):
        (tmp_path / "pictures" / "deep" / f"{index:02d}.JPG").write_bytes(data)
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def run(explainer: Explainer, *command: str) -> Result:
    return run_command("models", *command, explainer=explainer.address)


@pytest.mark.parametrize("command", [(), ("list",)], ids=["models", "models list"])
def test_all_versions_are_listed_with_their_classes(explainer, command):
    result = run(explainer, *command)
    assert result.exit_code == 0, result.output
    assert result.stdout.count("clear, [ill]") == result.stdout.count("films") == 2


def test_a_version_is_shown_with_its_classes_and_where_it_came_from(explainer):
    champion, named = run(explainer, "show", "films"), run(explainer, "show", "films", "--version", "2")
    assert (champion.exit_code, named.exit_code) == (0, 0), champion.output + named.output
    for result, number in ((champion, 1), (named, 2)):
        for told in (f"films version {number}", f"sha256:{number}", "clear, [ill]", f'"architecture": "Net{number}"'):
            assert told in result.stdout


@pytest.mark.parametrize(
    ("asked", "told"),
    [(("films", "--version", "9"), "'films' has no version 9"), (("nobody",), "name: no such model")],
    ids=["version", "name"],
)
def test_a_version_that_is_not_there_is_told_so(explainer, asked, told):
    result = run(explainer, "show", *asked)
    assert (result.exit_code, told in result.stderr) == (1, True)


def test_a_model_is_stored_and_imported_with_pictures_from_all_over_the_folder(explainer, layout, pictures, tmp_path):
    folder = write_model_folder(tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    result = run(explainer, "add", str(folder), "--name", "films", "--baselines", str(pictures))
    assert result.exit_code == 0, result.output
    (request,) = explainer.asked
    assert (request.name, request.expected_champion_version) == ("films", 1)
    names = [picture.id for picture in request.pictures]
    assert (len(names), names[0], names[-1]) == (20, "deep/00.JPG", "deep/29.JPG")
    stored = layout.store / request.folder_path
    assert {path.name for path in stored.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json"
    }  # fmt: skip
    for told in ("films version 2", "within 2e-07", "(DEEP_LIFT_SHAP) correlate by 0.04", "at most 0.5"):
        assert told in result.stdout
    run(explainer, "add", str(folder), "--name", "films", "--baselines", str(pictures))
    assert explainer.asked[1] == request


def test_the_same_model_with_other_pictures_is_another_import(explainer, layout, pictures, tmp_path):
    folder = write_model_folder(tmp_path / "model")
    for name in ("deep/00.JPG", "nothing"):
        run(explainer, "add", str(folder), "--name", "films", "--baselines", str(pictures))
        (pictures / name).unlink(missing_ok=True)
    first, second = explainer.asked
    assert first.folder_path == second.folder_path
    assert first.idempotency_key != second.idempotency_key


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model, pictures: (model / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda model, pictures: [path.unlink() for path in pictures.rglob("*.JPG")], "--baselines: 0 pictures"),
    ],
    ids=["no weights", "no pictures"],
)
def test_what_can_be_told_here_is_not_asked_for(explainer, layout, pictures, tmp_path, spoil, told):
    folder = write_model_folder(tmp_path / "model")
    spoil(folder, pictures)
    result = run(explainer, "add", str(folder), "--name", "films", "--baselines", str(pictures))
    assert result.exit_code == 1
    assert told in result.stderr
    assert explainer.asked == []


def test_a_folder_without_baselines_takes_pictures_and_one_with_its_own_does_not(explainer, layout, tmp_path):
    folder = write_model_folder(tmp_path / "model")
    refused = run(explainer, "add", str(folder), "--name", "films")
    assert (refused.exit_code, "--baselines: " in refused.stderr, explainer.asked) == (1, True, [])
    (folder / "baselines.safetensors").write_bytes(b"the explainer reads them")
    taken = run(explainer, "add", str(folder), "--name", "films")
    assert taken.exit_code == 0, taken.output
    (request,) = explainer.asked
    assert not request.pictures
    assert (layout.store / request.folder_path / "baselines.safetensors").is_file()

"""What `plumbline models shadow` asks and shows; the explainer is a stand-in that keeps the requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import Result

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from tests.support.commands import run_command, serve


class Explainer(rpc.ExplainerServiceServicer):
    """Serves `films` in two versions, the first one the shadow of the second."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[object] = []
        self.comparison = pb.GetShadowResponse()

    def ListModels(self, request, context):
        models = [
            {"model": {"name": "films", "version": n}, "is_champion": n == 2, "is_shadow": n == 1} for n in (1, 2)
        ]
        return pb.ListModelsResponse(models=models)

    def SetShadow(self, request, context):
        self.asked.append(request)
        shadow = {"name": "films", "version": request.version, "digest": "sha256:x"} if request.version else None
        return pb.SetShadowResponse(shadow=shadow)

    def GetShadow(self, request, context):
        self.asked.append(request)
        return self.comparison

    def PublishModel(self, request, context):
        self.asked.append(request)
        return pb.PublishModelResponse(model={"name": "films", "version": 3, "digest": "sha256:y"})


class Trainer(trainer_rpc.TrainerServiceServicer):
    """Has a job that was rejected and one that failed before it had trained."""

    def GetAlignment(self, request, context):
        metrics = json.dumps({"bundle_path": "models/films/abc"}) if request.job_id == "rejected" else ""
        return trainer_pb.GetAlignmentResponse(alignment={"model": {"name": "films"}, "metrics_json": metrics})


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    made = Explainer()
    with serve(made, Trainer()) as made.address:
        yield made


def run(explainer: Explainer, *command: str) -> Result:
    return run_command("models", *command, explainer=explainer.address, trainer=explainer.address)


def test_a_version_is_set_and_ended_and_the_list_shows_it(explainer: Explainer):
    assert "films version 1 is the shadow, sha256:x" in run(explainer, "shadow", "films", "1").stdout
    assert "films has no shadow" in run(explainer, "shadow", "films", "--off").stdout
    assert explainer.asked == [pb.SetShadowRequest(name="films", version=1), pb.SetShadowRequest(name="films")]
    assert "shadow" in run(explainer, "list").stdout


def test_a_jobs_challenger_is_served_as_the_shadow_of_the_champion_that_there_is(explainer: Explainer):
    told = run(explainer, "shadow", "films", "--job", "rejected").stdout
    assert "films version 3 is the shadow, sha256:y" in told
    published, shadow = explainer.asked
    assert (published.bundle_path, published.expected_champion_version) == ("models/films/abc", 2)
    assert published.as_shadow
    assert shadow == pb.SetShadowRequest(name="films", version=3)


def test_the_comparison_is_shown_with_its_numbers_and_labels(explainer: Explainer):
    explainer.comparison = pb.GetShadowResponse(
        shadow={"name": "films", "version": 1},
        champion_version=2,
        shadow_version=1,
        picture_count=20,
        agreement=0.75,
        mean_difference=0.0625,
        labels=["healthy", "ill [late]"],
        confusion=[9, 4, 1, 6],
        failed_count=3,
        dropped_count=5,
        share=0.1,
    )
    explainer.comparison.since.FromJsonString("2026-11-26T21:30:00Z")
    told = run(explainer, "shadow", "films").stdout
    for words in (
        "films version 1 is the shadow, of 10% of the champion's requests",
        "version 1 against version 2 since 2026-11-26 21:30 (UTC)",
        "20 pictures, the same label for 75.0%, probabilities 0.0625 apart; 3 failed, 5 dropped",
        "ill [late] in the shadow",
    ):
        assert words in told
    rows = [[word for word in line.replace("│", " ").split() if word.isdecimal()] for line in told.splitlines()]
    assert ["9", "4"] in rows
    assert ["1", "6"] in rows


def test_a_model_that_was_never_compared_says_so(explainer: Explainer):
    assert run(explainer, "shadow", "films").stdout.strip() == "films has no shadow"


@pytest.mark.parametrize(("name", "job"), [("films", "failed"), ("other", "rejected")])
def test_a_job_that_made_no_version_of_the_model_has_none_to_compare(explainer: Explainer, name: str, job: str):
    result = run(explainer, "shadow", name, "--job", job)
    assert result.exit_code == 1
    assert f"job {job} has made no version of '{name}'" in " ".join(result.output.split())
    assert explainer.asked == []


def test_two_wishes_at_once_are_refused_before_anything_is_asked(explainer: Explainer):
    result = run(explainer, "shadow", "films", "1", "--off")
    assert (result.exit_code, explainer.asked) == (1, [])
    assert "expected one of VERSION, --job and --off" in result.output

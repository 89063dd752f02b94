"""Models of transformers on a real Triton: added by the command, shown, explained; refused with the numbers when they answer otherwise."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForImageClassification, ViTImageProcessorPil
from typer.testing import CliRunner

from plumbline.cli import app
from plumbline.errors import PlumblineError
from plumbline.trainer.v1.trainer_service_pb2 import SubmitAlignmentRequest
from services.common.vision.golden import GOLDEN
from services.common.vision.problem_type import ProblemType
from tests.conftest import Served
from tests.support.hugging_face_folders import LABELS, make_pictures, write_model_folder

PROBABILITY_TOLERANCE = 1e-5  # float32 sums in another order


def run(served: Served, *command: str) -> Result:
    return CliRunner().invoke(app, ["--state", str(served.layout.state), "models", *command], env={"COLUMNS": "200"})


@dataclass(frozen=True)
class Added:
    """A vision transformer that the command has added as `knees`, with the pictures that it was given."""

    folder: Path
    pictures: Path
    told: str

    def command(self) -> list[str]:
        return ["add", str(self.folder), "--name", "knees", "--baselines", str(self.pictures)]


@pytest.fixture(scope="module")
def added(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Added:
    made = Added(write_model_folder(tmp_path_factory.mktemp("vit"), "vit"), tmp_path_factory.mktemp("pictures"), "")
    for index, data in enumerate(make_pictures(5)):
        (made.pictures / f"{index}.jpg").write_bytes(data)
    result = run(served, *made.command())
    assert result.exit_code == 0, result.output
    return replace(made, told=result.stdout)


def test_a_folder_is_served_with_the_probabilities_of_transformers_and_explained(served, added):
    assert "knees version 1" in added.told
    assert '"parameter_randomisation"' in run(served, "show", "knees").stdout
    shown = [(f"{index}", data) for index, data in enumerate(make_pictures(6, seed=1))]
    images = [Image.open(io.BytesIO(data)) for _, data in shown]
    pixels = ViTImageProcessorPil.from_pretrained(added.folder)(images, return_tensors="pt")
    with torch.inference_mode():
        model = AutoModelForImageClassification.from_pretrained(added.folder)
        expected = model(**pixels).logits.softmax(dim=1).numpy()
    found = np.array([list(prediction.probabilities) for prediction in served.client.predict("knees", shown)])
    assert np.abs(found - expected).max() < PROBABILITY_TOLERANCE
    _, explanations = served.client.explain("knees", shown[:2])
    assert all(np.frombuffer(each.attribution.data, "<f4").any() for each in explanations)


def test_a_model_of_several_labels_is_served_with_a_sigmoid_each_explained_and_not_aligned(served, added, tmp_path):
    folder = write_model_folder(tmp_path / "several", problem_type=ProblemType.MULTI_LABEL)
    result = run(served, "add", str(folder), "--name", "findings", "--baselines", str(added.pictures))
    assert result.exit_code == 0, result.output
    shown = [(f"{index}", data) for index, data in enumerate(make_pictures(6, seed=1))]
    images = [Image.open(io.BytesIO(data)) for _, data in shown]
    pixels = ViTImageProcessorPil.from_pretrained(folder)(images, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModelForImageClassification.from_pretrained(folder)(**pixels).logits.sigmoid().numpy()
    predictions = served.client.predict("findings", shown)
    assert np.abs(np.array([list(each.probabilities) for each in predictions]) - expected).max() < PROBABILITY_TOLERANCE
    said = [[LABELS[place] for place in np.flatnonzero(row > 0.5)] for row in expected]
    assert [list(each.predicted_labels) for each in predictions] == said
    rarest = LABELS[int(expected[0].argmin())]
    _, (explanation,) = served.client.explain("findings", shown[:1], target_label=rarest, with_faithfulness=True)
    assert explanation.target_label == rarest
    assert np.frombuffer(explanation.attribution.data, "<f4").any()
    specification = {"task": "x", "rules": [{"class_name": "all", "should_matter": "x"}]}
    with pytest.raises(PlumblineError, match="several labels") as caught:
        served.client.submit(
            SubmitAlignmentRequest(model={"name": "findings"}, dataset_path="none", specification=specification)
        )
    assert caught.value.field == "model.name"


def test_the_same_folder_with_the_same_pictures_is_added_once(served, added):
    again = run(served, *added.command())
    assert again.exit_code == 0, again.output
    assert [entry.model.version for entry in served.client.models("knees")] == [1]


def test_a_bundle_whose_golden_logits_triton_does_not_give_is_not_published(served, added):
    (listed,) = served.client.models("knees")
    path = f"models/knees/{listed.model.digest.removeprefix('sha256:')}"
    spoilt = served.layout.store / "models" / "knees" / "spoilt"
    shutil.copytree(served.layout.store / path, spoilt)
    tensors = load_file(spoilt / GOLDEN)
    tensors["logits"][1, 2] += 0.05
    save_file(tensors, spoilt / GOLDEN)
    told = r"as served, logit 2 of picture 1 is .* instead of .* at most 0\.001"
    with pytest.raises(PlumblineError, match=told) as caught:
        served.client.publish("knees", "models/knees/spoilt", 1, "spoilt")
    assert caught.value.code == "FAILED_PRECONDITION"
    assert [entry.model.version for entry in served.client.models("knees")] == [1]


def test_a_folder_that_asks_for_code_is_refused_by_the_explainer_too(served, added, tmp_path):
    folder = write_model_folder(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"auto_map": {"AutoModel": "mine.Net"}}
    (folder / "config.json").write_text(json.dumps(config))
    told = run(served, "add", str(folder), "--name", "added-code", "--baselines", str(added.pictures))
    assert (told.exit_code, "config.json: auto_map" in told.stderr) == (1, True)
    shutil.copytree(folder, served.layout.store / "imports" / "code")
    with pytest.raises(PlumblineError, match="auto_map") as caught:
        served.client.import_model("added-code", "imports/code", [], 0, "code")
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "folder_path")

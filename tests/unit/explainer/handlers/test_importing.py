"""An import ends with a bundle in the store that is served, or with nothing served. Store, repository and nets are real."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForImageClassification, ViTImageProcessorPil

from services.common.runtime.audit_log import AuditLog
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, Unsupported, WrongState
from services.common.runtime.folder_store import FolderStore
from services.common.vision.golden import GOLDEN, read_golden
from services.common.vision.model_bundle import BASELINES, load_bundle
from services.common.vision.preprocessing import ImageLimits
from services.common.vision.problem_type import ProblemType
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.domain.attribution import METHODS
from services.explainer.handlers import import_checks
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.import_checks import draw_baselines
from services.explainer.handlers.importing import ImportedModel, Importing
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from tests.support.hugging_face_folders import ARCHITECTURES, LABELS, make_pictures, write_model_folder
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle
from tests.unit.explainer.test_randomisation import EdgeDetector

PICTURES = [(data, 0) for data in make_pictures(6)]


@dataclass
class Stage:
    """An empty repository, and a store with folders to import."""

    repository: FolderRepository
    classifier: InProcessClassifier
    publishing: Publishing
    importing: Importing
    store: Path

    async def add(self, folder: str = "in", pictures=PICTURES, expected: int = 0, key: str = "key") -> ImportedModel:
        return await self.importing.import_folder("net", folder, pictures, expected, key)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    store = FolderStore(tmp_path / "store")
    repository, classifier = FolderRepository(tmp_path / "models"), InProcessClassifier()
    announcing, versions = Announcing(AuditLog(store), repository), LiveVersions(repository)
    publishing = Publishing(classifier, repository, store, announcing, versions, Verifying(classifier, 5), 5)
    return Stage(repository, classifier, publishing, Importing(publishing, store, ImageLimits()), tmp_path / "store")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
async def test_a_folder_becomes_a_served_bundle_whose_golden_logits_are_those_of_transformers(stage, architecture):
    folder = write_model_folder(stage.store / "in", architecture)
    imported = await stage.add()
    made = stage.store / imported.bundle_path
    bundle, golden = load_bundle(made), read_golden(made)
    assert stage.repository.champion("net") == imported.served.version == 1
    assert imported.bundle_path == f"models/net/{imported.served.digest.removeprefix('sha256:')}"
    assert (bundle.digest, bundle.labels) == (imported.served.digest, LABELS)
    assert len(bundle.baselines) == len(PICTURES)

    model = AutoModelForImageClassification.from_pretrained(folder)
    processor = ViTImageProcessorPil.from_pretrained(folder)
    images = [Image.fromarray(picture) for picture in golden.pictures]
    with torch.inference_mode():
        expected = model(**processor(images, return_tensors="pt")).logits.numpy()
    assert np.abs(golden.logits - expected).max() < 1e-6

    checks = imported.checks
    assert checks.golden_request.picture_count == len(golden.pictures) == 4
    assert checks.golden_request.largest_difference < 1e-4
    assert checks.parameter_randomisation.rank_correlation < 0.3
    told = json.loads((made / "plumbline.json").read_text())["import"]
    assert told["golden_request"]["largest_difference"] == checks.golden_request.largest_difference
    assert told["parameter_randomisation"]["rank_correlation"] == checks.parameter_randomisation.rank_correlation
    assert told["baselines"] == {"from": "pictures", "count": len(PICTURES)}
    assert stage.repository.version("net", 1).provenance["import"] == told


async def test_a_folder_of_several_labels_is_held_to_the_same_and_served_as_such(stage):
    folder = write_model_folder(stage.store / "in", problem_type=ProblemType.MULTI_LABEL)
    imported = await stage.add()
    assert imported.served.problem_type is ProblemType.MULTI_LABEL
    golden = read_golden(stage.store / imported.bundle_path)
    images = [Image.fromarray(picture) for picture in golden.pictures]
    pixels = ViTImageProcessorPil.from_pretrained(folder)(images, return_tensors="pt")
    with torch.inference_mode():
        expected = AutoModelForImageClassification.from_pretrained(folder)(**pixels).logits.sigmoid().numpy()
    found = imported.served.problem_type.read_probabilities(golden.logits)
    assert np.abs(found - expected).max() < 1e-6


async def test_the_same_key_imports_once_and_another_folder_under_it_is_refused(stage):
    write_model_folder(stage.store / "in")
    write_model_folder(stage.store / "other", seed=2)
    first = await stage.add()
    assert await stage.add() == first
    with pytest.raises(AlreadyExists, match="another bundle"):
        await stage.add("other", expected=1)
    assert stage.repository.numbers("net") == [1]


async def test_an_importer_who_did_not_know_the_champion_changes_nothing(stage):
    write_model_folder(stage.store / "in")
    await stage.add()
    with pytest.raises(Conflict, match="champion"):
        await stage.add(key="late")
    assert stage.repository.numbers("net") == [1]


async def test_a_bundle_of_ours_keeps_its_baselines_and_where_it_came_from(stage):
    write_bundle(stage.store / "in")
    grey = np.linspace(0, 1, 3 * 36, dtype=np.float32).reshape(3, 1, 6, 6)
    save_file({"baselines": grey}, stage.store / "in" / BASELINES)
    imported = await stage.add(pictures=[])
    made = stage.store / imported.bundle_path
    assert np.array_equal(load_file(made / BASELINES)["baselines"], grey)
    told = json.loads((made / "plumbline.json").read_text())
    assert (told["made_by"], told["import"]["baselines"]) == ("test", {"from": "folder", "count": 3})
    assert (made / "README.md").read_text() == "# card\n"


async def test_baselines_are_drawn_as_the_pictures_that_they_were(stage):
    write_model_folder(stage.store / "in")
    await stage.add()
    bundle = load_bundle(stage.repository.bundle("net", 1))
    drawn = draw_baselines(bundle.preprocessor, bundle.baselines)
    again = np.stack([bundle.preprocessor(picture) for picture in drawn])
    assert np.abs(again - bundle.baselines.numpy()).max() < 1e-5


@pytest.mark.parametrize(
    ("pictures", "field", "told"),
    [
        ([], "pictures", "the folder has no baselines.safetensors"),
        (PICTURES[:1], "pictures", "2 to 64"),
        (PICTURES[:1] * 65, "pictures", "2 to 64"),
        ([PICTURES[0], (b"I am text", 0)], r"pictures[1].data", "not a picture"),
        ([PICTURES[0], (PICTURES[1][0], 2)], r"pictures[1].data", "frame 2"),
    ],
    ids=["none", "one", "too many", "text", "no such frame"],
)
async def test_pictures_that_make_no_baselines_are_refused_with_the_field(stage, pictures, field, told):
    write_model_folder(stage.store / "in")
    with pytest.raises(InvalidInput, match=told) as caught:
        await stage.add(pictures=pictures)
    assert caught.value.field == field
    assert stage.repository.names() == []


async def test_a_folder_at_fault_is_told_of_at_its_path_and_nothing_is_stored(stage):
    folder = write_model_folder(stage.store / "in")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match="pickled") as caught:
        await stage.add()
    assert caught.value.field == "folder_path"
    assert not (stage.store / "models").exists()


@pytest.mark.parametrize("path", ["nowhere", "in/config.json", "../models", ""])
async def test_a_path_that_is_no_folder_is_refused(stage, path):
    write_model_folder(stage.store / "in")
    with pytest.raises(InvalidInput) as caught:
        await stage.add(path)
    assert caught.value.field == "folder_path"


async def test_weights_without_a_head_are_refused_not_filled_with_random_numbers(stage):
    folder = write_model_folder(stage.store / "in")
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InvalidInput, match=r"model\.safetensors: missing .*classifier"):
        await stage.add()


async def test_a_served_model_that_answers_otherwise_than_transformers_did_is_stopped_with_numbers(stage):
    write_model_folder(stage.store / "in")
    made = stage.store / (await stage.add()).bundle_path
    tensors = load_file(made / GOLDEN)
    tensors["logits"][2, 1] += 0.5
    save_file(tensors, made / GOLDEN)
    with pytest.raises(
        WrongState, match=r"golden request: as served, logit 1 of picture 2 is .* by transformers: 0\.\d+ of"
    ):
        await stage.publishing.publish("net", str(made.relative_to(stage.store)), 1, "again")
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (1, [1])


async def test_a_golden_request_of_other_classes_is_refused(stage):
    write_model_folder(stage.store / "in")
    made = stage.store / (await stage.add()).bundle_path
    tensors = load_file(made / GOLDEN)
    save_file(tensors | {"logits": np.ascontiguousarray(tensors["logits"][:, :2])}, made / GOLDEN)
    with pytest.raises(InvalidInput, match="one per class"):
        await stage.publishing.publish("net", str(made.relative_to(stage.store)), 1, "again")


async def test_a_rollback_to_an_import_is_held_against_its_golden_request_again(stage):
    for seed, folder in enumerate(("in", "next")):
        write_model_folder(stage.store / folder, seed=seed)
        await stage.add(folder, expected=seed, key=folder)
    rolling_back = RollingBack(stage.repository, stage.publishing)
    served = await rolling_back.roll_back("net", 0, 2, "worse on new pictures", "back")
    assert (served.version, served.repeats_version) == (3, 1)
    tensors = load_file(stage.repository.bundle("net", 2) / GOLDEN)
    save_file(tensors | {"logits": -tensors["logits"]}, stage.repository.bundle("net", 2) / GOLDEN)
    with pytest.raises(WrongState, match="golden request"):
        await rolling_back.roll_back("net", 2, 3, "forth", "forth")


async def test_a_model_whose_maps_do_not_depend_on_its_parameters_is_refused(stage, monkeypatch):
    write_model_folder(stage.store / "in")
    monkeypatch.setitem(METHODS, import_checks.DEFAULT_METHOD, EdgeDetector())
    with pytest.raises(InvalidInput, match=r"parameter randomisation: .* correlation of 1\.00, at most 0\.5"):
        await stage.add()
    assert stage.repository.names() == []


async def test_a_model_that_the_method_does_not_run_on_is_refused(stage, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no such layer")

    write_model_folder(stage.store / "in")
    monkeypatch.setitem(METHODS, import_checks.DEFAULT_METHOD, fail)
    with pytest.raises(Unsupported, match="does not run on ResNetForImageClassification: RuntimeError: no such layer"):
        await stage.add()

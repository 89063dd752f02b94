"""A Hugging Face folder from outside is taken or refused by its files alone, and a refusal names file and key."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from services.common.runtime.errors import InvalidInput, ServiceError
from services.common.vision.model_bundle import bundle_digest, read_json
from services.common.vision.model_folder import check_model_folder, copy_model_files
from tests.support.hugging_face_folders import ARCHITECTURES, write_model_folder
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model_folder(tmp_path_factory.mktemp("saved"))


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "folder"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_as_save_pretrained_writes_it_is_taken(architecture, tmp_path):
    check_model_folder(write_model_folder(tmp_path, architecture))


def test_a_bundle_of_ours_is_taken(tmp_path):
    write_bundle(tmp_path / "ours")
    check_model_folder(tmp_path / "ours")


def change(name: str, **keys: object) -> Callable[[Path], None]:
    """Set keys of a JSON file; None takes one out."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / name).read_text()) | keys
        kept = {key: value for key, value in content.items() if value is not None}
        (folder / name).write_text(json.dumps(kept))

    return apply


def rename(old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: (folder / old).rename(folder / new)


CONFIG, PREPROCESSING, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
REFUSED = {
    "pickled weights": (
        rename(WEIGHTS, "pytorch_model.bin"),
        r"pytorch_model\.bin: pickled .* expected model\.safetensors",
    ),
    "weights in shards": (rename(WEIGHTS, f"{WEIGHTS}.index.json"), r"index\.json: .* expected one model\.safetensors"),
    "no weights": (rename(WEIGHTS, "notes.txt"), r"model\.safetensors is missing"),
    "no configuration": (rename(CONFIG, "notes.txt"), r"config\.json is missing"),
    "no preprocessing": (rename(PREPROCESSING, "notes.txt"), r"preprocessor_config\.json is missing"),
    "not JSON": (lambda folder: (folder / CONFIG).write_text("{"), r"config\.json: can't be read as JSON"),
    "code of its own": (change(CONFIG, auto_map={"AutoModel": "mine.Net"}), r"config\.json: auto_map"),
    "a processor's code": (
        change(PREPROCESSING, auto_map={"AutoImageProcessor": "mine.Processor"}),
        r"preprocessor_config\.json: auto_map",
    ),
    "no names of classes": (change(CONFIG, id2label=None), r"config\.json: id2label is missing"),
    "one class": (change(CONFIG, id2label={"0": "cat"}), r"config\.json: id2label .* fewer than two"),
    "names that nobody gave": (
        change(CONFIG, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}),
        r"config\.json: id2label: 'LABEL_0' is no name",
    ),
    "a class without a number": (change(CONFIG, id2label={"0": "cat", "2": "dog"}), r"config\.json: id2label"),
    "a model of words": (change(CONFIG, model_type="bert"), r"config\.json: model_type 'bert' is no image classifier"),
    "an unknown model": (change(CONFIG, model_type="nobodys"), r"config\.json: transformers can't read it"),
    "a model without a head": (
        change(CONFIG, architectures=["ResNetModel"]),
        r"config\.json: architectures is \['ResNetModel'\]; expected ResNetForImageClassification",
    ),
    "no architecture": (change(CONFIG, architectures=None), r"config\.json: architectures is None"),
    "numbers for labels": (
        change(CONFIG, problem_type="regression"),
        r"config\.json: problem_type is 'regression'",
    ),
    "a step that is not built": (
        change(PREPROCESSING, do_center_crop=True),
        r"preprocessor_config\.json: do_center_crop",
    ),
    "a processor that crops": (
        change(PREPROCESSING, image_processor_type="ConvNextImageProcessor", size={"shortest_edge": 224}),
        r"preprocessor_config\.json: pictures would be cropped",
    ),
}


@pytest.mark.parametrize(("spoil", "told"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_no_bundle_can_be_made_of_is_refused_with_file_and_key(folder, spoil, told):
    spoil(folder)
    with pytest.raises(ServiceError, match=told):
        check_model_folder(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no such folder"):
        check_model_folder(tmp_path / "nowhere")


def test_only_what_a_bundle_takes_is_copied_pickles_and_code_stay(folder, tmp_path):
    for name in ("pytorch_model.bin", "training_args.bin", "modeling.py", "README.md"):
        (folder / name).write_text("anything")
    check_model_folder(folder)
    target = tmp_path / "copied"
    target.mkdir()
    copy_model_files(folder, target)
    assert {path.name for path in target.iterdir()} == {CONFIG, WEIGHTS, PREPROCESSING, "README.md"}
    assert bundle_digest(target) == bundle_digest(folder)


def test_json_that_is_nested_too_deep_is_refused_with_the_file(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(InvalidInput, match=r"config\.json: can't be read as JSON"):
        read_json(tmp_path / "config.json")


def test_a_digest_does_not_hold_the_weights_in_memory(tmp_path):
    write_bundle(tmp_path / "ours")
    weights = tmp_path / "ours" / "model.safetensors"
    with weights.open("ab") as file:
        file.truncate(32 * 2**20)
    tracemalloc.start()
    try:
        bundle_digest(tmp_path / "ours")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()

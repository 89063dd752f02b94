"""The settings, the specification, the batches and the bundles."""

import json

import pytest
import torch
from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict
from safetensors.torch import save_file

from services.common.runtime.errors import InvalidInput
from services.common.runtime.settings import ServiceSettings
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import (
    MAX_BATCH_BYTES,
    MAX_BATCH_CRITIQUES,
    Critique,
    CritiqueBatch,
    Provenance,
    split_into_batches,
)
from services.common.vision.model_bundle import bundle_digest, load_bundle, save_bundle
from services.common.vision.nets import MlpConfig, MlpForImageClassification

DIGEST = "sha256:" + "0" * 64
PREPROCESSING = {"size": {"height": 6, "width": 6}, "do_rescale": True}


class ExampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="EXAMPLE_")


def test_mistyped_variable_is_refused(monkeypatch):
    monkeypatch.setenv("EXAMPLE_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("EXAMPLE_DRIAN_S", "3")
    with pytest.raises(ValueError, match="EXAMPLE_DRIAN_S"):
        ExampleSettings()


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ((), "rules"),
        ((ClassRule("3"),), "rules[0].should_matter"),
        ((ClassRule("", "the stroke"),), "rules[0].class_name"),
        ((ClassRule("3", "a"), ClassRule("3", "b")), "rules[1].class_name"),
    ],
    ids=["no rule", "neither polarity", "no class", "class twice"],
)
def test_incomplete_specification_is_refused_with_the_field(rules, field):
    with pytest.raises(InvalidInput) as caught:
        ClassSpecification("task", rules)
    assert caught.value.field == field


def test_class_that_the_model_lacks_is_refused():
    specification = ClassSpecification("task", (ClassRule("all", "a"), ClassRule("eleven", "b")))
    with pytest.raises(InvalidInput, match="eleven") as caught:
        specification.check_classes(("one", "two"))
    assert caught.value.field == "rules[1].class_name"


def test_class_without_a_rule_is_refused():
    with pytest.raises(InvalidInput, match="two"):
        ClassSpecification("task", (ClassRule("one", "a"),)).check_classes(("one", "two"))


def critique(name: str, reasons: str) -> Critique:
    return Critique(
        image_id=name,
        image_digest=DIGEST,
        model_digest=DIGEST,
        true_label="3",
        reasons=reasons,
        provenance=Provenance(engine="person", model_id="tester"),
    )


@pytest.mark.parametrize(
    "letter", ["x", "ß", "語", "\U0001f9e0", '"'], ids=["ascii", "two", "three", "four", "escaped"]
)
@pytest.mark.parametrize("job_id", ["job", "j" * 900])
def test_batches_keep_both_caps_and_the_order(letter, job_id):
    batches = split_into_batches(job_id, [critique(f"{n}.png", letter * 5000) for n in range(70)])
    assert [c.image_id for batch in batches for c in batch.critiques] == [f"{n}.png" for n in range(70)]
    assert all(len(batch.critiques) <= MAX_BATCH_CRITIQUES for batch in batches)
    # What the trainer counts: compact JSON in UTF-8.
    sizes = [
        len(json.dumps(b.model_dump(mode="json"), separators=(",", ":"), ensure_ascii=False).encode()) for b in batches
    ]
    assert max(sizes) <= MAX_BATCH_BYTES


def test_small_critiques_fill_batches_to_the_count():
    batches = split_into_batches("job", [critique(f"{n}.png", "short") for n in range(70)])
    assert [len(batch.critiques) for batch in batches] == [32, 32, 6]


def test_critique_that_fits_no_batch_is_refused_by_its_place():
    with pytest.raises(InvalidInput, match=str(MAX_BATCH_BYTES)) as caught:
        split_into_batches("job", [critique("a.png", "short"), critique("b.png", "語" * 22_000)])
    assert caught.value.field == "critiques[1]"


@pytest.mark.parametrize(
    "change",
    [
        {"critiques": []},
        {"critiques": "33"},
        {"schema_version": 2},
        {"job_id": ""},
        {"extra": 1},
    ],
    ids=["none", "too many", "other version", "no job", "unknown field"],
)
def test_batch_outside_its_schema_is_refused(change):
    whole = {"job_id": "job", "critiques": [critique("a.png", "").model_dump()]}
    CritiqueBatch.model_validate(whole)
    if change.get("critiques") == "33":
        change = {"critiques": whole["critiques"] * 33}
    with pytest.raises(ValidationError):
        CritiqueBatch.model_validate(whole | change)


def write(folder, seed: int = 0) -> str:
    torch.manual_seed(seed)
    config = MlpConfig(image_size=6, hidden_sizes=(4,), id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1})
    return save_bundle(folder, MlpForImageClassification(config), PREPROCESSING, None, {"made_by": "test"}, "# card\n")


def test_bundle_loads_with_the_digest_it_was_saved_with(tmp_path):
    digest = write(tmp_path / "bundle")
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.digest == digest
    assert bundle.labels == ("a", "b")
    assert bundle.baselines.shape == (3, 1, 6, 6)


def test_digest_follows_the_weights(tmp_path):
    assert write(tmp_path / "one") == write(tmp_path / "same")
    assert write(tmp_path / "one2", seed=1) != bundle_digest(tmp_path / "one")


def test_folder_without_weights_is_no_bundle(tmp_path):
    write(tmp_path / "bundle")
    (tmp_path / "bundle" / "model.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"model\.safetensors"):
        load_bundle(tmp_path / "bundle")


def edit_json(path, **changes) -> None:
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(content))


BROKEN = {
    "weights cut": (lambda folder: cut(folder / "model.safetensors"), "can't load"),
    "weights of nothing": (lambda folder: save_file({"x": torch.zeros(1)}, folder / "model.safetensors"), "layers"),
    "weights of another shape": (lambda folder: edit_json(folder / "config.json", hidden_sizes=[5]), "layers|mismatch"),
    "weights elsewhere": (
        lambda folder: edit_json(folder / "config.json", transformers_weights="other.safetensors"),
        "transformers_weights",
    ),
    "config cut": (lambda folder: cut(folder / "config.json"), r"config\.json"),
    "config that is no object": (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json"),
    "unknown architecture": (lambda folder: edit_json(folder / "config.json", model_type="nobodys"), "nobodys"),
    "class without a name": (lambda folder: edit_json(folder / "config.json", id2label={"0": "a", "2": "b"}), "gap"),
    "class twice": (lambda folder: edit_json(folder / "config.json", id2label={"0": "a", "1": "a"}), "twice"),
    "preprocessing cut": (lambda folder: cut(folder / "preprocessor_config.json"), r"preprocessor_config\.json"),
    "no mean": (
        lambda folder: edit_json(folder / "preprocessor_config.json", do_normalize=True, image_mean=None),
        "image_mean",
    ),
    "provenance cut": (lambda folder: cut(folder / "plumbline.json"), r"plumbline\.json"),
    "baselines of another name": (
        lambda folder: save_file({"x": torch.zeros(1)}, folder / "baselines.safetensors"),
        "baselines",
    ),
    "baselines cut": (lambda folder: (folder / "baselines.safetensors").write_bytes(b"1"), "baselines"),
    "baselines of another size": (
        lambda folder: save_file({"baselines": torch.zeros(2, 1, 5, 5)}, folder / "baselines.safetensors"),
        "at least 2",
    ),
    "baselines without numbers": (
        lambda folder: save_file({"baselines": torch.full((2, 1, 6, 6), torch.nan)}, folder / "baselines.safetensors"),
        "finite",
    ),
}


def cut(path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("spoil", "told"), BROKEN.values(), ids=BROKEN)
def test_broken_bundle_is_refused_with_what_is_wrong(tmp_path, spoil, told):
    write(tmp_path / "bundle")
    spoil(tmp_path / "bundle")
    with pytest.raises(InvalidInput, match=told):
        load_bundle(tmp_path / "bundle")

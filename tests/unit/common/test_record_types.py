"""The store, the specification, the batches and the bundles."""

import threading

import pytest
import torch
from pydantic_settings import SettingsConfigDict

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, InvalidInput, NotFound
from services.common.runtime.settings import ServiceSettings
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import MAX_BATCH_BYTES, Critique, Provenance, split_into_batches
from services.common.vision.model_bundle import bundle_digest, load_bundle, save_bundle
from services.common.vision.nets import MlpConfig, MlpForImageClassification

DIGEST = "sha256:" + "0" * 64
PREPROCESSING = {"size": {"height": 6, "width": 6}, "do_rescale": True}


def test_of_many_who_create_an_object_one_wins(tmp_path):
    store, won = ArtifactStore(tmp_path), []

    def create(number: int) -> None:
        try:
            store.create("jobs/a/events/000000.json", str(number).encode())
            won.append(number)
        except AlreadyExists:
            pass

    threads = [threading.Thread(target=create, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("jobs/a/events/000000.json") == str(won[0]).encode()


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b", "", "a\x00b"])
def test_no_path_leaves_the_store(tmp_path, path):
    with pytest.raises(InvalidInput):
        ArtifactStore(tmp_path).create(path, b"")


def test_link_out_of_the_store_is_not_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="leads out"):
        ArtifactStore(tmp_path / "store").read("link/secret")


def test_missing_object_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        ArtifactStore(tmp_path).read("nothing")


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


def test_batches_keep_both_caps():
    batches = split_into_batches("job", [critique(f"{n}.png", "x" * 5000) for n in range(70)])
    assert sum(len(batch.critiques) for batch in batches) == 70
    assert all(len(batch.critiques) <= 32 for batch in batches)
    assert all(len(batch.model_dump_json()) <= MAX_BATCH_BYTES for batch in batches)


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

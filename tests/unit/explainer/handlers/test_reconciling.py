"""A server that knows nothing is brought to what the repository holds. The repository is real."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from services.common.runtime.errors import WrongState
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.reconciling import keep_reconciled, reconcile
from services.explainer.ports import ShadowPointer
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    """Two published models, `one` and `two`."""
    write_bundle(tmp_path / "bundle")
    repository = FolderRepository(tmp_path / "models")
    for name in ("one", "two"):
        repository.set_champion(name, repository.add_version(name, tmp_path / "bundle", "key").version)
    return repository


@pytest.fixture
def classifier(tmp_path: Path) -> InProcessClassifier:
    return InProcessClassifier()


def fail_on(name: str, error: Exception):
    def on_load(asked: str) -> None:
        if asked == name:
            raise error

    return on_load


async def names_loaded(classifier: InProcessClassifier, repository: FolderRepository) -> list[str]:
    return [served.name for served in await reconcile(classifier, repository)]


async def test_fresh_server_gets_every_published_model_once(repository, classifier):
    assert await names_loaded(classifier, repository) == ["one", "two"]
    assert await reconcile(classifier, repository) == []


async def test_model_without_a_champion_is_left_alone(repository, classifier, tmp_path):
    repository.add_version("unfinished", tmp_path / "bundle", "key")
    assert await names_loaded(classifier, repository) == ["one", "two"]


async def test_version_that_is_being_published_is_its_publishers_to_load(repository, classifier, tmp_path):
    await reconcile(classifier, repository)
    repository.add_version("one", tmp_path / "bundle", "next")
    assert await reconcile(classifier, repository) == []


async def test_shadow_above_the_champion_is_loaded_too(repository, classifier, tmp_path):
    await reconcile(classifier, repository)
    shadow = repository.add_version("one", tmp_path / "bundle", "next", as_shadow=True).version
    repository.set_shadow("one", ShadowPointer().moved_to_new(shadow))
    assert await names_loaded(classifier, repository) == ["one"]
    assert await classifier.is_ready("one", shadow)


async def test_fresh_server_gets_champions_first_then_shadows_then_the_newest(repository, classifier, tmp_path):
    for number in (2, 3, 4, 5):
        repository.add_version("one", tmp_path / "bundle", f"key-{number}")
    repository.set_champion("one", 4)
    repository.set_shadow("one", ShadowPointer().moved_to(2))
    loaded = [(served.name, served.version) for served in await reconcile(classifier, repository)]
    assert loaded == [("one", 4), ("two", 1), ("one", 2), ("one", 3), ("one", 1)]


async def test_old_version_that_fails_does_not_keep_its_model_from_being_served(repository, classifier, tmp_path):
    repository.set_champion("one", repository.add_version("one", tmp_path / "bundle", "next").version)
    (tmp_path / "models" / "one" / "1" / "bundle" / "model.safetensors").write_bytes(b"")
    await reconcile(classifier, repository)
    assert [await classifier.is_ready("one", number) for number in (1, 2)] == [False, True]


@pytest.mark.parametrize("error", [WrongState("broken"), RuntimeError("a bug")], ids=["refused", "bug"])
async def test_model_that_fails_does_not_keep_the_others_from_being_served(repository, classifier, error):
    classifier.on_load = fail_on("one", error)
    assert await names_loaded(classifier, repository) == ["two"]


async def test_version_folder_without_files_does_not_keep_the_others_from_being_served(
    repository, classifier, tmp_path
):
    (tmp_path / "models" / "one" / "1" / "publication.json").unlink()
    (tmp_path / "models" / "one" / "1" / "bundle" / "config.json").write_text("{")
    assert await names_loaded(classifier, repository) == ["two"]


async def test_loop_goes_on_after_a_fault_of_any_kind(repository, classifier, tmp_path):
    pointer = tmp_path / "models" / "one" / "champion.json"
    whole = pointer.read_bytes()
    pointer.write_text("{")
    loop = asyncio.create_task(keep_reconciled(classifier, repository, interval_s=0.01))
    await until_ready(classifier, "two")
    pointer.write_bytes(whole)
    await until_ready(classifier, "one")
    loop.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await loop


async def until_ready(classifier: InProcessClassifier, name: str) -> None:
    async with asyncio.timeout(10):
        while not await classifier.is_ready(name, 1):
            await asyncio.sleep(0.01)

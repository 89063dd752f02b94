"""A publication ends with a verified champion or with nothing changed. Repository and store are real."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.runtime.audit_log import AuditLog
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, Unavailable, WrongState
from services.common.runtime.folder_store import FolderStore
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@dataclass
class Stage:
    """Bundles `a` and `b` in the store, nothing published."""

    repository: FolderRepository
    classifier: InProcessClassifier
    publishing: Publishing
    store: Path

    async def publish(self, bundle: str = "a", expected: int = 0, key: str = "key") -> int:
        return (await self.publishing.publish("net", bundle, expected, key)).version

    def leave_orphan(self, bundle: str, key: str) -> int:
        """What a publisher leaves that dies before the pointer."""
        return self.repository.add_version("net", self.store / bundle, key).version


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for seed, name in enumerate(("a", "b")):
        write_bundle(tmp_path / "store" / name, seed)
    repository, classifier = FolderRepository(tmp_path / "models"), InProcessClassifier()
    store = FolderStore(tmp_path / "store")
    announcing, versions = Announcing(AuditLog(store), repository), LiveVersions(repository)
    publishing = Publishing(classifier, repository, store, announcing, versions, Verifying(classifier, 5), 5)
    return Stage(repository, classifier, publishing, tmp_path / "store")


def fail(error: BaseException):
    def on_load(name: str) -> None:
        raise error

    return on_load


async def test_published_version_is_the_champion_and_the_same_key_returns_it(stage):
    assert await stage.publish() == 1
    assert await stage.publish() == 1
    assert stage.repository.champion("net") == 1


async def test_key_with_another_bundle_is_refused(stage):
    await stage.publish()
    with pytest.raises(AlreadyExists, match="another bundle"):
        await stage.publish("b", 1)


async def test_publisher_who_did_not_know_the_champion_changes_nothing(stage):
    await stage.publish()
    with pytest.raises(Conflict, match="champion"):
        await stage.publish("b", 0, "other")
    assert stage.repository.numbers("net") == [1]


@pytest.mark.parametrize(
    "error", [Unavailable("away"), WrongState("refused"), RuntimeError("a bug")], ids=["away", "refused", "bug"]
)
async def test_failed_publication_leaves_the_old_champion_alone(stage, error):
    await stage.publish()
    stage.classifier.on_load = fail(error)
    with pytest.raises(type(error)):
        await stage.publish("b", 1, "other")
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (1, [1])


async def test_server_that_answers_otherwise_does_not_get_a_champion(stage):
    stage.classifier.shift = 0.1
    with pytest.raises(Unavailable, match="differ"):
        await stage.publish()
    assert stage.repository.names() == []


async def test_version_that_does_not_pass_is_let_go_by_the_server_too(stage):
    await stage.publish()
    stage.classifier.shift = 0.1
    with pytest.raises(Unavailable, match="differ"):
        await stage.publish("b", 1, "other")
    assert [await stage.classifier.is_ready("net", number) for number in (1, 2)] == [True, False]


async def test_number_of_a_version_that_failed_is_not_used_again(stage):
    stage.classifier.on_load = fail(Unavailable("away"))
    with pytest.raises(Unavailable):
        await stage.publish()
    stage.classifier.on_load = lambda name: None
    assert await stage.publish() == 2


async def test_version_that_nobody_verified_is_not_reported_as_published(stage):
    orphan = stage.leave_orphan("a", "first")
    other = await stage.publish("b", 0, "second")
    assert stage.repository.numbers("net") == [other]
    with pytest.raises(Conflict):
        await stage.publish("a", 0, "first")
    assert await stage.publish("a", other, "first") > orphan


async def test_key_whose_publisher_died_publishes_again(stage):
    stage.leave_orphan("a", "key")
    version = await stage.publish()
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (version, [version])


async def test_publication_goes_on_when_its_caller_leaves(stage):
    stage.classifier.hold = asyncio.Event()
    call = asyncio.create_task(stage.publish())
    await until(lambda: stage.repository.numbers("net") == [1])
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    stage.classifier.hold.set()
    await until(lambda: stage.repository.champion("net") == 1)


async def test_publication_that_is_cancelled_itself_is_undone_and_gives_the_lock_back(stage):
    stage.classifier.hold = asyncio.Event()
    before = asyncio.all_tasks()
    call = asyncio.create_task(stage.publish())
    await until(lambda: stage.repository.numbers("net") == [1])
    for task in asyncio.all_tasks() - before - {call}:
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    assert stage.repository.names() == []
    stage.classifier.hold = None
    assert await stage.publish() == 2


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("config.json", "{", "JSON"),
        ("preprocessor_config.json", json.dumps({"size": {"height": None, "width": 6}}), "preprocessor_config"),
        ("preprocessor_config.json", json.dumps({"size": {"height": 7, "width": 7}}), "baselines"),
    ],
    ids=["malformed", "no height", "size that the model does not take"],
)
async def test_bundle_that_is_at_fault_is_told_so_and_never_added(stage, file, content, told):
    (stage.store / "a" / file).write_text(content)
    with pytest.raises(InvalidInput, match=told) as caught:
        await stage.publish()
    assert caught.value.field == "bundle_path"
    assert stage.repository.names() == []


async def test_model_that_says_no_labels_is_refused(stage):
    config = stage.store / "a" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"problem_type": "regression"}))
    with pytest.raises(InvalidInput, match="problem_type is 'regression'; expected single_label") as caught:
        await stage.publish()
    assert caught.value.field == "bundle_path"
    assert stage.repository.names() == []


async def until(is_so) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)

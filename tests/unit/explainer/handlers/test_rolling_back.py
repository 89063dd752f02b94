"""A rollback serves older weights as the next version, says which and why, and is safe to ask for twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.runtime.audit_log import AuditAction, AuditLog
from services.common.runtime.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
    WrongState,
)
from services.common.runtime.folder_store import FolderStore
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import ServedVersion
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle


@dataclass
class Stage:
    """Model `net` with versions a, b, b again."""

    repository: FolderRepository
    classifier: InProcessClassifier
    publishing: Publishing
    rolling_back: RollingBack
    audit_log: AuditLog
    digests: dict[str, str]

    async def roll_back(self, **changes) -> ServedVersion:
        content = {"name": "net", "version": 0, "expected_champion": 3, "reason": "worse on new films", "key": "back"}
        return await self.rolling_back.roll_back(**content | changes)


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    store, repository = FolderStore(tmp_path / "store"), FolderRepository(tmp_path / "models")
    digests = {name: write_bundle(tmp_path / "store" / name, seed) for seed, name in enumerate("ab")}
    classifier, audit_log = InProcessClassifier(), AuditLog(store)
    announcing, versions = Announcing(audit_log, repository), LiveVersions(repository)
    publishing = Publishing(classifier, repository, store, announcing, versions, Verifying(classifier, 5), 5)
    for number, bundle in enumerate("abb"):
        await publishing.publish("net", bundle, number, f"key-{number}")
    return Stage(repository, classifier, publishing, RollingBack(repository, publishing), audit_log, digests)


async def test_the_newest_version_with_other_weights_comes_back_as_the_next_one(stage):
    served = await stage.roll_back(caller="anna")
    assert (served.version, served.repeats_version, served.digest) == (4, 1, stage.digests["a"])
    assert stage.repository.champion("net") == 4
    assert stage.repository.version("net", 4).repeats_version == 1
    event = stage.audit_log.read(4)
    assert event.action is AuditAction.MODEL_ROLLED_BACK
    assert (event.model_version, event.repeats_version, event.reason) == (4, 1, "worse on new films")
    assert (event.caller, event.lineage.model_digest) == ("anna", stage.digests["a"])


async def test_a_version_may_be_named_and_a_rollback_rolled_back(stage):
    await stage.roll_back(version=1)
    served = await stage.roll_back(version=2, expected_champion=4, key="forth")
    assert (served.version, served.repeats_version, served.digest) == (5, 2, stage.digests["b"])


async def test_the_same_key_rolls_back_once_also_when_the_version_was_not_named(stage):
    first = await stage.roll_back()
    assert await stage.roll_back() == first
    assert stage.repository.numbers("net") == [1, 2, 3, 4]
    assert stage.audit_log.last_number() == 4


@pytest.mark.parametrize(
    ("changes", "kind", "told"),
    [
        ({"name": ""}, InvalidInput, "name"),
        ({"name": "nobody"}, NotFound, "name"),
        ({"version": -1}, InvalidInput, "version"),
        ({"version": 9}, NotFound, "version"),
        ({"version": 3}, InvalidInput, "version: version 3 has the weights of the champion"),
        ({"version": 2}, InvalidInput, "version: version 2 has the weights of the champion"),
        ({"expected_champion": 0}, InvalidInput, "expected_champion_version"),
        ({"expected_champion": 2}, Conflict, "expected_champion_version"),
        ({"expected_champion": 9}, Conflict, "expected_champion_version"),
        ({"reason": " "}, InvalidInput, "reason"),
        ({"reason": "x" * 1001}, InvalidInput, "reason"),
        ({"key": ""}, InvalidInput, "idempotency_key"),
        ({"key": "key-0"}, AlreadyExists, "idempotency_key"),
    ],
)
async def test_a_wrong_rollback_is_refused_with_the_field_and_changes_nothing(stage, changes, kind, told):
    with pytest.raises(kind, match=told):
        await stage.roll_back(**changes)
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (3, [1, 2, 3])
    assert stage.audit_log.last_number() == 3


async def test_where_nothing_else_was_served_before_there_is_nothing_to_go_back_to(stage):
    await stage.publishing.publish("other", "a", 0, "first")
    with pytest.raises(NotFound, match="has other weights"):
        await stage.roll_back(name="other", expected_champion=1)


async def test_a_version_that_nobody_verified_is_nothing_to_go_back_to(stage, tmp_path):
    stage.repository.add_version("net", tmp_path / "store" / "a", "orphan")
    with pytest.raises(NotFound, match="version"):
        await stage.roll_back(version=4)


async def test_files_that_were_changed_since_are_not_served_again(stage):
    config = stage.repository.bundle("net", 1) / "config.json"
    config.write_text(config.read_text().replace('"a"', '"c"'))
    with pytest.raises(WrongState, match="no longer those"):
        await stage.roll_back()
    assert stage.repository.champion("net") == 3


async def test_a_rollback_that_the_server_answers_otherwise_leaves_the_champion(stage):
    stage.classifier.shift = 0.1
    with pytest.raises(Unavailable, match="differ"):
        await stage.roll_back()
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (3, [1, 2, 3])
    stage.classifier.shift = 0.0
    assert (await stage.roll_back()).version == 5


async def test_a_key_that_rolled_back_publishes_nothing_else(stage):
    await stage.roll_back()
    with pytest.raises(ServiceError, match="another way"):
        await stage.publishing.publish("net", "a", 4, "back")

"""No version is live of which no event tells, wherever a publisher dies. Repository, store and log are real."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.runtime.audit_log import AuditAction, AuditLog
from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.common.vision.model_bundle import PROVENANCE
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing, keep_settled
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Publication
from tests.support.stores import FullStore
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle

PUBLISHED, UNDONE, FOUND = (
    AuditAction.MODEL_PUBLISHED,
    AuditAction.PUBLICATION_UNDONE,
    AuditAction.MODEL_FOUND_LIVE,
)


class _PowerCut(BaseException):
    """What nothing in the process survives."""


class _DyingRepository(FolderRepository):
    """Stops before or after the pointer moves, when it is told to."""

    dies = ""

    def set_champion(self, name: str, version: int) -> None:
        if self.dies == "before":
            raise _PowerCut
        super().set_champion(name, version)
        if self.dies == "after":
            raise _PowerCut


@dataclass
class Stage:
    """Bundles `a` and `b` in the store, nothing published."""

    root: Path
    repository: _DyingRepository
    store: FullStore
    announcing: Announcing
    publishing: Publishing

    async def publish(self, bundle: str, expected: int, key: str = "") -> int:
        return (await self.publishing.publish("net", bundle, expected, key or bundle, "anna")).version

    def told(self) -> list[tuple[AuditAction, int]]:
        log = AuditLog(FolderStore(self.root / "store"))
        assert log.verify().fault is None
        events = [log.read(number) for number in range(1, log.last_number() + 1)]
        return [(event.action, event.model_version) for event in events]

    def after_restart(self) -> Announcing:
        """As a new process has it: what the one before did after it died does not count."""
        return Announcing(AuditLog(FolderStore(self.root / "store")), FolderRepository(self.root / "models"))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    for seed, name in enumerate(("a", "b")):
        write_bundle(tmp_path / "store" / name, seed)
    repository, store = _DyingRepository(tmp_path / "models"), FullStore(tmp_path / "store")
    announcing = Announcing(AuditLog(store), repository)
    classifier, versions = InProcessClassifier(), LiveVersions(repository)
    publishing = Publishing(classifier, repository, store, announcing, versions, Verifying(classifier, 5), 5)
    return Stage(tmp_path, repository, store, announcing, publishing)


async def test_a_publication_is_told_once_with_what_it_came_from_and_who_asked(stage):
    (stage.root / "store" / "a" / PROVENANCE).write_text(
        '{"job_id": "job-1", "parent": {"version": 1, "digest": "sha256:p"}, "data_digest": "sha256:d", "code_version": 7}'
    )
    await stage.publish("a", 0)
    await stage.publish("a", 0)
    assert stage.told() == [(PUBLISHED, 1)]
    event = AuditLog(stage.store).read(1)
    assert (event.actor, event.caller, event.job_id, event.model_name) == ("explainer", "anna", "job-1", "net")
    lineage = event.lineage
    assert lineage.model_digest == stage.repository.version("net", 1).digest
    assert (lineage.parent_digest, lineage.data_digest, lineage.code_version) == ("sha256:p", "sha256:d", "")


async def test_a_publication_that_failed_before_it_was_announced_is_not_told(stage):
    stage.repository.add_version("net", stage.root / "store" / "a", "orphan")
    await stage.publish("b", 0)
    assert stage.told() == [(PUBLISHED, 2)]


@pytest.mark.parametrize(
    ("dies", "champion", "told"),
    [
        ("before", 1, [(PUBLISHED, 1), (PUBLISHED, 2), (UNDONE, 2)]),
        ("after", 2, [(PUBLISHED, 1), (PUBLISHED, 2)]),
    ],
)
async def test_a_process_that_dies_around_the_pointer_leaves_a_log_that_a_new_one_sets_right(
    stage, dies, champion, told
):
    await stage.publish("a", 0)
    # As `Publishing` does it, but nothing runs after the end.
    added = stage.repository.add_version("net", stage.root / "store" / "b", "b")
    stage.announcing.announce(added, Publication("b"))
    stage.repository.dies = dies
    with contextlib.suppress(_PowerCut):
        stage.repository.set_champion("net", added.version)
    assert (stage.repository.champion("net"), stage.told()) == (champion, told[:2])
    for _ in range(2):
        stage.after_restart().settle("net")
        assert stage.told() == told


async def test_an_announced_publication_that_fails_in_a_living_process_is_undone_at_once(stage):
    await stage.publish("a", 0)
    stage.repository.dies = "before"
    with pytest.raises(_PowerCut):
        await stage.publish("b", 1)
    assert (stage.repository.numbers("net"), stage.told()[1:]) == ([1], [(PUBLISHED, 2), (UNDONE, 2)])
    stage.repository.dies = ""
    assert await stage.publish("b", 1) == 3
    assert stage.told()[3:] == [(PUBLISHED, 3)]


async def test_a_first_version_that_came_to_nothing_is_told_of(stage):
    added = stage.repository.add_version("net", stage.root / "store" / "a", "a")
    stage.announcing.announce(added, Publication("a"))
    assert await stage.publish("b", 0) == 2
    assert stage.told() == [(PUBLISHED, 1), (UNDONE, 1), (PUBLISHED, 2)]


async def test_what_the_log_can_not_hold_is_not_served_and_may_be_tried_again(stage):
    await stage.publish("a", 0)
    stage.store.is_full = True
    with pytest.raises(Unavailable, match=r"audit/.*No space left"):
        await stage.publish("b", 1)
    assert (stage.repository.champion("net"), stage.repository.numbers("net")) == (1, [1])
    stage.store.is_full = False
    assert await stage.publish("b", 1) == 3
    assert stage.told() == [(PUBLISHED, 1), (PUBLISHED, 3)]


async def test_a_champion_from_before_there_was_a_log_is_found_and_told_once(stage):
    stage.repository.set_champion("net", stage.repository.add_version("net", stage.root / "store" / "a", "old").version)
    keeper = asyncio.create_task(keep_settled(stage.announcing, stage.repository, 0.01))
    async with asyncio.timeout(10):
        while stage.told() != [(FOUND, 1)]:
            await asyncio.sleep(0.01)
        await stage.publish("b", 1)
        await asyncio.sleep(0.1)
    keeper.cancel()
    assert stage.told() == [(FOUND, 1), (PUBLISHED, 2)]


@pytest.mark.parametrize("call", ["names", "champion"])
async def test_a_fault_of_the_volume_does_not_end_the_keeping_of_the_log(stage, monkeypatch, caplog, call):
    stage.repository.set_champion("net", stage.repository.add_version("net", stage.root / "store" / "a", "old").version)
    faults = [OSError(116, "Stale file handle")]
    read = getattr(stage.repository, call)

    def read_or_fail(*arguments: str) -> object:
        if faults:
            raise faults.pop()
        return read(*arguments)

    monkeypatch.setattr(stage.repository, call, read_or_fail)
    keeper = asyncio.create_task(keep_settled(stage.announcing, stage.repository, 0.01))
    async with asyncio.timeout(10):
        while stage.told() != [(FOUND, 1)]:
            await asyncio.sleep(0.01)
    keeper.cancel()
    assert [record.message for record in caplog.records] == ["audit log not settled"]

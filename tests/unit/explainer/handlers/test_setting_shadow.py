"""Which version may be a shadow, how one is served that never was the champion, and what the audit log says of it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.audit_log import AuditAction
from services.common.runtime.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    NotFound,
    ServiceError,
    Unavailable,
    WrongState,
)
from services.explainer.handlers.listing import list_versions
from tests.unit.explainer.shadow_stage import ShadowStage, make_stage


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    return await make_stage(tmp_path)


def shadow_events(stage: ShadowStage) -> list[tuple[AuditAction, int, str, str]]:
    return [
        (event.action, event.model_version, event.caller, event.lineage.model_digest)
        for event in stage.events()
        if event.action in (AuditAction.SHADOW_SET, AuditAction.SHADOW_ENDED)
    ]


async def test_a_version_that_is_not_the_champion_becomes_the_shadow_and_ceases_to_be_and_the_log_says_so(
    stage: ShadowStage,
):
    assert (await stage.setting.set("net", 1, "anna")).version == 1
    assert (await stage.setting.set("net", 1, "again")).version == 1  # nothing to tell
    listed = await list_versions(stage.classifier, stage.repository, "net")
    assert [(each.is_champion, each.is_shadow) for each in listed] == [(False, True), (True, False)]
    assert await stage.setting.set("net", 0, "ben") is None
    assert await stage.setting.set("net", 0, "again") is None
    assert stage.repository.shadow("net").version == 0
    assert (await stage.setting.set("net", 1, "carla")).version == 1
    digest = stage.digests["a"]
    assert shadow_events(stage) == [
        (AuditAction.SHADOW_SET, 1, "anna", digest),
        (AuditAction.SHADOW_ENDED, 1, "ben", digest),
        (AuditAction.SHADOW_SET, 1, "carla", digest),
    ]
    assert stage.audit_log.verify().fault is None


@pytest.mark.parametrize(
    ("name", "version", "kind", "told"),
    [
        ("", 1, InvalidInput, "name"),
        ("nobody", 1, NotFound, "name"),
        ("net", -1, InvalidInput, "version"),
        ("net", 2, InvalidInput, "version: version 2 is the champion"),
        ("net", 9, NotFound, "version"),
        ("net", 3, NotFound, "version 3 that was verified"),
    ],
)
async def test_what_can_not_be_a_shadow_is_refused_with_the_field_and_changes_nothing(
    stage: ShadowStage, name: str, version: int, kind: type[ServiceError], told: str
):
    orphan = stage.repository.add_version("net", stage.root / "store" / "c", "left by a publisher that died")
    assert orphan.version == 3
    with pytest.raises(kind, match=told):
        await stage.setting.set(name, version)
    assert stage.repository.shadow("net").version == 0
    assert shadow_events(stage) == []


async def test_a_version_that_does_not_answer_is_no_shadow_yet(stage: ShadowStage):
    del stage.classifier._loaded["net", 1]
    with pytest.raises(Unavailable, match="does not answer"):
        await stage.setting.set("net", 1)
    assert stage.repository.shadow("net").version == 0


async def test_a_change_that_can_not_be_told_is_not_made(stage: ShadowStage, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: str, data: bytes) -> None:
        raise Unavailable(f"artifact store: {path} can't be read or written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(stage.audit_log._store, "create", refuse)
        with pytest.raises(Unavailable, match=r"audit/.*No space left"):
            await stage.setting.set("net", 1)
    assert stage.repository.shadow("net").version == 0
    await stage.setting.set("net", 1)
    assert [event[:2] for event in shadow_events(stage)] == [(AuditAction.SHADOW_SET, 1)]


async def test_a_change_waits_for_a_publication(stage: ShadowStage):
    async with stage.repository.publishing("net", 5):
        change = asyncio.create_task(stage.setting.set("net", 1))
        await asyncio.sleep(0.1)
        assert stage.repository.shadow("net").version == 0
    assert (await change).version == 1


async def test_a_change_that_was_told_is_made_though_its_caller_left(
    stage: ShadowStage, monkeypatch: pytest.MonkeyPatch
):
    told, go_on = threading.Event(), threading.Event()
    announce = stage.setting._announcing.announce_shadow

    def announce_slowly(*arguments: Any) -> None:
        announce(*arguments)
        told.set()
        go_on.wait(10)

    monkeypatch.setattr(stage.setting._announcing, "announce_shadow", announce_slowly)
    call = asyncio.create_task(stage.setting.set("net", 1))
    await asyncio.to_thread(told.wait, 10)
    call.cancel()
    await asyncio.sleep(0.05)  # by now the cancellation has reached whatever it can reach
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    async with stage.repository.publishing("net", 10):
        assert stage.repository.shadow("net").version == 1
    assert [event[:2] for event in shadow_events(stage)] == [(AuditAction.SHADOW_SET, 1)]


async def test_a_bundle_served_as_a_shadow_is_verified_and_leaves_the_champion(stage: ShadowStage):
    served = await stage.publish("c", 2, as_shadow=True)
    assert (served.version, served.as_shadow, served.digest) == (3, True, stage.digests["c"])
    assert (stage.repository.champion("net"), stage.repository.shadow("net").version) == (2, 3)
    assert await stage.classifier.is_ready("net", 3)
    assert shadow_events(stage) == [(AuditAction.SHADOW_SET, 3, "anna", stage.digests["c"])]
    assert await stage.publish("c", 2, as_shadow=True) == served
    assert len(stage.events()) == 3


async def test_a_publication_passes_over_the_shadow_and_keeps_it(stage: ShadowStage):
    await stage.publish("c", 2, as_shadow=True)
    published = await stage.publish("a", 2, key="again")
    assert published.version == 4
    assert stage.repository.numbers("net") == [1, 2, 3, 4]
    assert (stage.repository.champion("net"), stage.repository.shadow("net").version) == (4, 3)


async def test_no_rollback_goes_to_a_version_that_never_was_the_champion(stage: ShadowStage):
    await stage.publish("c", 2, as_shadow=True)
    await stage.publish("a", 2, key="again")
    with pytest.raises(NotFound, match="no version 3 that was published"):
        await stage.rolling_back.roll_back("net", 3, 4, "why", "back")
    assert (await stage.rolling_back.roll_back("net", 0, 4, "why", "back")).repeats_version == 2


async def test_a_shadow_that_was_ended_may_be_set_again_also_above_the_champion(stage: ShadowStage):
    await stage.publish("c", 2, as_shadow=True)
    await stage.setting.set("net", 1)
    assert (await stage.setting.set("net", 3)).version == 3


async def test_the_same_bundle_becomes_the_champion_by_a_publication_of_its_own(stage: ShadowStage):
    await stage.publish("c", 2, as_shadow=True)
    with pytest.raises(AlreadyExists, match="another way"):
        await stage.publish("c", 2)
    assert (await stage.publish("c", 2, key="for good")).version == 4
    assert stage.repository.champion("net") == 4


async def test_a_server_that_answers_otherwise_gets_no_shadow(stage: ShadowStage):
    stage.classifier.shift = 0.1
    with pytest.raises(Unavailable, match="differ"):
        await stage.publish("c", 2, as_shadow=True)
    assert (stage.repository.numbers("net"), stage.repository.shadow("net").version) == ([1, 2], 0)
    stage.classifier.shift = 0.0
    assert (await stage.publish("c", 2, as_shadow=True)).version == 4


async def test_a_shadow_needs_a_champion_and_the_one_that_its_caller_knows(stage: ShadowStage):
    with pytest.raises(WrongState, match="as_shadow"):
        await stage.publishing.publish("other", "a", 0, "key", as_shadow=True)
    with pytest.raises(Conflict, match="champion"):
        await stage.publish("c", 1, as_shadow=True)

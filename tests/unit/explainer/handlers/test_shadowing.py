"""A shadow answers what the champion has answered: its numbers are right, and no caller can tell that it is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from services.common.runtime.errors import InvalidInput, NotFound, ServiceError, Unavailable
from services.explainer.domain.comparison import Comparison
from services.explainer.ports import ServedVersion, ShadowPointer
from tests.unit.explainer.shadow_stage import SIDE, ShadowStage, draw_pictures, make_stage

A, B = 1, 2


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    """The first version is the shadow of the second."""
    made = await make_stage(tmp_path, timeout_s=0.5)
    await made.setting.set("net", A)
    return made


@contextlib.asynccontextmanager
async def comparing(stage: ShadowStage) -> AsyncIterator[None]:
    keeper = asyncio.create_task(stage.shadowing.keep_comparing())
    try:
        yield
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


def compared(stage: ShadowStage) -> Comparison:
    _, comparison = stage.shadowing.find("net")
    return comparison


async def probabilities(stage: ShadowStage, pictures: list[np.ndarray], version: int) -> np.ndarray:
    stage.draws.append(1.0)  # not to be compared
    return np.array([prediction.probabilities for prediction in await stage.predict(pictures, version)])


async def test_the_numbers_are_those_of_the_two_versions_on_the_same_pictures(stage: ShadowStage):
    pictures = draw_pictures(40)
    async with comparing(stage):
        for part in (pictures[:7], pictures[7:]):
            await stage.predict(part)
        await until(lambda: compared(stage).picture_count == 40)
    champion, shadow = [await probabilities(stage, pictures, version) for version in (B, A)]
    found = compared(stage)
    assert (found.champion_version, found.shadow_version, found.labels) == (B, A, ("a", "b"))
    said = list(zip(champion.argmax(axis=1).tolist(), shadow.argmax(axis=1).tolist(), strict=True))
    assert found.confusion.tolist() == [[said.count((row, column)) for column in range(2)] for row in range(2)]
    assert 0 < found.agreement == sum(row == column for row, column in said) / 40 < 1
    assert found.mean_difference == pytest.approx(np.abs(champion - shadow).mean())
    assert (found.failed_count, found.dropped_count) == (0, 0)


async def test_replies_are_the_same_to_the_bit_with_a_shadow_and_without(stage: ShadowStage):
    pictures = draw_pictures(5)
    async with comparing(stage):
        with_shadow = await stage.predict(pictures)
        await until(lambda: compared(stage).picture_count == 5)
    await stage.setting.set("net", 0)
    assert await stage.predict(pictures) == with_shadow


async def test_a_shadow_that_never_answers_delays_nobody_and_is_given_up(stage: ShadowStage):
    async def hang(served: ServedVersion) -> None:
        if served.version == A:
            await asyncio.Event().wait()

    stage.classifier.before = hang
    async with comparing(stage):
        for _ in range(3):
            assert len(await stage.predict(draw_pictures(4))) == 4
        await until(lambda: compared(stage).failed_count == 12)
    assert compared(stage).picture_count == 0


@pytest.mark.parametrize("error", [Unavailable("Triton is away"), RuntimeError("a bug"), ValueError()])
async def test_a_shadow_that_fails_is_counted_and_the_next_request_is_compared_again(
    stage: ShadowStage, error: Exception, caplog: pytest.LogCaptureFixture
):
    async def fail(served: ServedVersion) -> None:
        if served.version == A:
            raise error

    stage.classifier.before = fail
    with caplog.at_level(logging.INFO, "services.explainer"):
        async with comparing(stage):
            for _ in range(2):
                assert len(await stage.predict(draw_pictures(4))) == 4
            await until(lambda: compared(stage).failed_count == 8)
            stage.classifier.before = None
            await stage.predict(draw_pictures(4))
            await until(lambda: compared(stage).picture_count == 4)
    assert [record.message for record in caplog.records].count("shadow failed") == 1


async def test_what_does_not_fit_is_dropped_and_counted_and_the_room_comes_back(tmp_path: Path):
    stage = await make_stage(tmp_path, max_pixels=10 * SIDE * SIDE)
    await stage.setting.set("net", A)
    for count in (6, 5, 4):  # nobody compares yet: six and four fit
        await stage.predict(draw_pictures(count))
    assert compared(stage).dropped_count == 5
    async with comparing(stage):
        await until(lambda: compared(stage).picture_count == 10)
        await stage.predict(draw_pictures(10))
        await until(lambda: compared(stage).picture_count == 20)
    assert compared(stage).dropped_count == 5


async def test_the_share_of_requests_is_taken_that_was_asked_for(tmp_path: Path):
    stage = await make_stage(tmp_path, share=0.25)
    await stage.setting.set("net", A)
    stage.draws = [0.0, 0.24, 0.25, 0.9]
    async with comparing(stage):
        for count in (1, 2, 4, 8):
            await stage.predict(draw_pictures(count))
        await until(lambda: compared(stage).picture_count == 3)


async def test_only_what_the_champion_answered_is_compared_also_when_it_was_asked_by_number(stage: ShadowStage):
    async with comparing(stage):
        await stage.predict(draw_pictures(3), version=A)
        await stage.predict(draw_pictures(2), version=B)
        await until(lambda: compared(stage) is not None and compared(stage).picture_count == 2)


async def test_a_model_without_a_shadow_is_not_compared(stage: ShadowStage):
    await stage.setting.set("net", 0)
    await stage.predict(draw_pictures(3))
    assert stage.shadowing.find("net") == (None, None)


async def test_another_champion_or_another_shadow_begins_a_comparison_of_its_own(stage: ShadowStage):
    async with comparing(stage):
        await stage.predict(draw_pictures(3))
        await until(lambda: compared(stage).picture_count == 3)
        await stage.publish("c", B)
        assert compared(stage).champion_version == B  # readable until the next one begins
        await stage.predict(draw_pictures(2))
        await until(lambda: compared(stage).champion_version == 3 and compared(stage).picture_count == 2)
        await stage.setting.set("net", B)
        await stage.predict(draw_pictures(1))
        await until(lambda: compared(stage).shadow_version == B and compared(stage).picture_count == 1)


async def test_a_pointer_that_can_not_be_read_costs_the_comparison_and_no_reply(stage: ShadowStage, tmp_path: Path):
    (tmp_path / "models" / "net" / "shadow.json").write_text("{")
    assert len(await stage.predict(draw_pictures(3))) == 3


async def test_a_shadow_that_is_gone_is_a_failure_of_the_shadow_alone(stage: ShadowStage):
    stage.repository.set_shadow("net", ShadowPointer(version=9))
    async with comparing(stage):
        assert len(await stage.predict(draw_pictures(3))) == 3
        await until(lambda: compared(stage).failed_count == 3)


async def test_how_it_stands_is_logged_in_numbers_once_in_a_while(stage: ShadowStage, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "services.explainer"):
        async with comparing(stage):
            for _ in range(3):
                await stage.predict(draw_pictures(4))
            await until(lambda: compared(stage).picture_count == 12)
    (record,) = [record for record in caplog.records if record.message == "shadow compared"]
    assert (record.model, record.champion_version, record.shadow_version, record.picture_count) == ("net", B, A, 4)


@pytest.mark.parametrize(("name", "kind"), [("nobody", NotFound), ("", InvalidInput)])
async def test_an_unknown_model_has_no_shadow_to_tell_of(stage: ShadowStage, name: str, kind: type[ServiceError]):
    with pytest.raises(kind, match="name"):
        stage.shadowing.find(name)

"""Parts of a stream: how many, how heavy, and what is taken ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from services.explainer.handlers import gathering
from services.explainer.handlers.gathering import Weight, gather_parts

HEAVIEST = Weight(byte_count=10, pixel_count=100)


async def weigh(item: Weight) -> Weight:
    return item


async def stream(items: list[Weight]) -> AsyncIterator[Weight]:
    for item in items:
        yield item


@pytest.mark.parametrize(
    ("items", "sizes"),
    [
        ([], []),
        ([Weight(1, 1)] * 7, [3, 3, 1]),
        ([Weight(6, 1)] * 3, [1, 1, 1]),
        ([Weight(1, 50)] * 5, [2, 2, 1]),
        ([Weight(1, 1), Weight(11, 1), Weight(1, 101), Weight(1, 1), Weight(1, 1)], [1, 1, 1, 2]),
    ],
    ids=["none", "by number", "by bytes", "by pixels", "heavier than a part"],
)
async def test_parts_hold_what_they_may_in_the_order_of_the_stream(items, sizes):
    parts = [part async for part in gather_parts(stream(items), weigh, 3, HEAVIEST)]
    assert [len(part) for part in parts] == sizes
    assert [item for part in parts for item in part] == items


async def test_stream_that_fails_fails_its_reader_and_what_it_gave_before_is_not_repeated():
    async def failing() -> AsyncIterator[Weight]:
        yield Weight()
        raise ValueError("cut off")

    with pytest.raises(ValueError, match="cut off"):
        [part async for part in gather_parts(failing(), weigh, 3, HEAVIEST)]


async def test_reader_who_leaves_ends_the_read_that_goes_on(monkeypatch):
    monkeypatch.setattr(gathering, "LINGER_S", 0.01)
    ended = asyncio.Event()

    async def stuck() -> AsyncIterator[Weight]:
        yield Weight()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with aclosing(gather_parts(stuck(), weigh, 3, HEAVIEST)) as parts:
        assert await anext(parts) == [Weight()]
    assert ended.is_set()

"""Cut a stream into parts that are worked on one after the other; while one is in work, no more is taken from the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

LINGER_S = 0.05
"""How long a part waits for one more item. A stream that is fast fills its parts, a slow one is answered at once."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Weight:
    """What an item, or a part, costs to hold: bytes as it came, pixels once it is decoded."""

    byte_count: int = 0
    pixel_count: int = 0

    def __add__(self, other: Weight) -> Weight:
        return Weight(self.byte_count + other.byte_count, self.pixel_count + other.pixel_count)

    def exceeds(self, most: Weight) -> bool:
        """Whether either count is above that of `most`."""
        return self.byte_count > most.byte_count or self.pixel_count > most.pixel_count


async def gather_parts(
    items: AsyncIterator[Item], weigh: Callable[[Item], Awaitable[Weight]], most: int, heaviest: Weight
) -> AsyncIterator[list[Item]]:
    """Parts of `items` in their order: up to `most` items, together up to `heaviest`; an item that is heavier goes alone.

    Of the items taken from the stream, at most `most` are in the part that was given last or wait for the next.
    """
    part: list[Item] = []
    total = Weight()
    coming: asyncio.Task[list[Item]] | None = None
    try:
        while True:
            # A read can't be given up without losing what it read, so one that lasts goes on while the part is in work: such a part is not full.
            coming = coming or asyncio.create_task(_take(items))
            await asyncio.wait({coming}, timeout=LINGER_S if part else None)
            if not coming.done():
                yield part
                part, total = [], Weight()
                continue
            taken, coming = coming.result(), None
            if not taken:
                break
            weight = await weigh(taken[0])
            if part and (total + weight).exceeds(heaviest):
                yield part
                part, total = [], Weight()
            part, total = [*part, *taken], total + weight
            if len(part) == most:
                yield part
                part, total = [], Weight()
        if part:
            yield part
    finally:
        if coming:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)


async def _take(items: AsyncIterator[Item]) -> list[Item]:
    """The next item; none at the end."""
    async for item in items:
        return [item]
    return []

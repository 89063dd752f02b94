"""Any number of items through calls that take a bounded request: cut beforehand, halved where the answer turns out too large."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

REQUEST_BYTES = 32 * 2**20
"""Of pictures in one request: half of what a message holds, for what else it says."""

Item = TypeVar("Item")
Reply = TypeVar("Reply")


def in_chunks(items: Iterable[Item], most: int, size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """`items` as many at a time as a request may hold: `most`, and 32 MiB. One that is larger goes alone."""
    chunk: list[Item] = []
    size_bytes = 0
    for item in items:
        own_bytes = size_of(item)
        if chunk and (len(chunk) == most or size_bytes + own_bytes > REQUEST_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(item)
        size_bytes += own_bytes
    if chunk:
        yield chunk


def call_in_parts(
    call: Callable[[Sequence[Item]], Reply], items: Sequence[Item], is_too_much: Callable[[Exception], bool]
) -> list[Reply]:
    """The replies to `items`: one, or more where the call fails with what `is_too_much` and halves do not."""
    try:
        return [call(items)]
    except Exception as error:
        half = len(items) // 2
        if not half or not is_too_much(error):
            raise
    return call_in_parts(call, items[:half], is_too_much) + call_in_parts(call, items[half:], is_too_much)

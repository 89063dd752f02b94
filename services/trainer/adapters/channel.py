"""What both gRPC clients share: the channel's limits, requests that keep them, and the translation of failures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import grpc

from services.common.runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.runtime.grpc_status import from_rpc_error

_MAX_MESSAGE_BYTES = 64 * 2**20
_REQUEST_BYTES = 32 * 2**20
"""Of pictures in one request: half of what a message holds, for what else it says."""

Item = TypeVar("Item")
Reply = TypeVar("Reply")


class TookTooLong(Unavailable):
    """A neighbour did not answer in time. Worth another try, with less at once where that is possible."""


def open_channel(address: str) -> grpc.Channel:
    """A channel that takes messages as large as our servers send, and looks for a lost server every second."""
    return grpc.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )


@contextmanager
def calling(neighbour: str) -> Iterator[None]:
    """Turn a failed call to `neighbour` into one of our errors."""
    try:
        yield
    except grpc.RpcError as error:
        failure = from_rpc_error(error, neighbour)
        if isinstance(failure, DeadlineExceeded):
            # Only training's own deadline is final: a neighbour that is busy or starting may be quicker the next time.
            failure = TookTooLong(failure.message)
        raise failure from error


def in_chunks(items: Iterable[Item], most: int, size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """`items` as many at a time as a request may hold: `most`, and 32 MiB. One that is larger goes alone."""
    chunk: list[Item] = []
    size_bytes = 0
    for item in items:
        own_bytes = size_of(item)
        if chunk and (len(chunk) == most or size_bytes + own_bytes > _REQUEST_BYTES):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(item)
        size_bytes += own_bytes
    if chunk:
        yield chunk


def call_in_parts(call: Callable[[Sequence[Item]], Reply], items: Sequence[Item]) -> list[Reply]:
    """The replies to `items`: one, or more where that was too much at once for the neighbour and halves are not."""
    try:
        return [call(items)]
    except (Overloaded, TookTooLong):
        half = len(items) // 2
        if not half:
            raise
        return call_in_parts(call, items[:half]) + call_in_parts(call, items[half:])

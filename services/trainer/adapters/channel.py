"""What both gRPC clients share: the channel's limits and the translation of failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from services.common.runtime.grpc_status import from_rpc_error

_MAX_MESSAGE_BYTES = 64 * 2**20


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
        raise from_rpc_error(error, neighbour) from error

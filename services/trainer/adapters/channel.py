"""What both gRPC clients share: the channel's limits and the translation of failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from plumbline import channels
from plumbline.certificates import CertificateFiles
from services.common.runtime.errors import DeadlineExceeded, Overloaded, Unavailable
from services.common.runtime.grpc_status import from_rpc_error
from services.common.runtime.traces import TracedCalls

_MAX_MESSAGE_BYTES = 64 * 2**20


class TookTooLong(Unavailable):
    """A neighbour did not answer in time. Worth another try, with less at once where that is possible."""


def open_channel(address: str, certificates: CertificateFiles | None) -> grpc.Channel:
    """A channel that takes messages as large as our servers send, looks for a lost server every second, and takes the trace along."""
    channel = channels.open_channel(
        address,
        certificates,
        [
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ],
    )
    return grpc.intercept_channel(channel, TracedCalls())


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


def is_too_much(error: Exception) -> bool:
    """Whether less at once may do better."""
    return isinstance(error, (Overloaded, TookTooLong))

"""Channels to the services: plain, or under mutual TLS with certificates that may change while a channel is open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc

from plumbline.certificates import CertificateFiles
from plumbline.fresh_files import FreshFiles

Options = Sequence[tuple[str, Any]]


def open_channel(address: str, certificates: CertificateFiles | None, options: Options) -> grpc.Channel:
    """A channel to `address` (host:port), plain without `certificates`; `UnusableFile` when those can't be used."""
    if certificates is None:
        return grpc.insecure_channel(address, options=options)

    def connect() -> grpc.Channel:
        held = certificates.read()
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(held.authority, held.key, held.chain), options)

    return _RenewedChannel(FreshFiles(certificates.paths, connect))


class _RenewedChannel(grpc.Channel):
    """Makes each call on a channel whose certificates are those of the files; gRPC's own keeps what it was opened with.

    A channel that was replaced is closed by gRPC when its last call has ended.
    """

    def __init__(self, current: FreshFiles[grpc.Channel]) -> None:
        self._current = current

    def unary_unary(self, *arguments: Any, **options: Any) -> _RenewedMethod:
        return _RenewedMethod(self._current, "unary_unary", arguments, options)

    def unary_stream(self, *arguments: Any, **options: Any) -> _RenewedMethod:
        return _RenewedMethod(self._current, "unary_stream", arguments, options)

    def stream_unary(self, *arguments: Any, **options: Any) -> _RenewedMethod:
        return _RenewedMethod(self._current, "stream_unary", arguments, options)

    def stream_stream(self, *arguments: Any, **options: Any) -> _RenewedMethod:
        return _RenewedMethod(self._current, "stream_stream", arguments, options)

    def subscribe(self, callback: Any, try_to_connect: bool = False) -> None:
        self._current.get().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Any) -> None:
        self._current.get().unsubscribe(callback)

    def close(self) -> None:
        self._current.get().close()

    def __enter__(self) -> _RenewedChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _RenewedMethod:
    """One method of a `_RenewedChannel`, called in all the ways that gRPC's own is."""

    def __init__(
        self, current: FreshFiles[grpc.Channel], kind: str, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        self._current = current
        self._kind = kind
        self._arguments = arguments
        self._options = options

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._method()(*arguments, **options)

    def with_call(self, *arguments: Any, **options: Any) -> Any:
        return self._method().with_call(*arguments, **options)

    def future(self, *arguments: Any, **options: Any) -> Any:
        return self._method().future(*arguments, **options)

    def _method(self) -> Any:
        return getattr(self._current.get(), self._kind)(*self._arguments, **self._options)

"""Who calls: by certificate, which proves it, or by what the client says, which is for the record alone."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from services.common.runtime.audit_log import short_text

CALLER_KEY = "plumbline-caller-bin"
"""Metadata in which a client names whom it works for, in UTF-8."""
_CERTIFICATE_NAME = "x509_common_name"


def read_caller(context: grpc.aio.ServicerContext) -> str:
    """The name in the client's certificate; without one the name that the client gives, "" when it gives none."""
    given = [value for key, value in context.invocation_metadata() or () if key == CALLER_KEY]
    return read_proven_name(context, _read(given))


def read_proven_name(context: grpc.aio.ServicerContext, claimed: str = "") -> str:
    """The name in the client's certificate; without one the name `claimed`."""
    return _read(context.auth_context().get(_CERTIFICATE_NAME, [])) or claimed


def _read(names: Sequence[bytes]) -> str:
    return short_text(next(iter(names), b"").decode(errors="replace"))

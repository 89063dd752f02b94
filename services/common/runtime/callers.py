"""Who calls, for the record: a name, not a proof."""

from __future__ import annotations

import grpc

from services.common.runtime.audit_log import short_text

CALLER_KEY = "plumbline-caller-bin"
"""Metadata in which a client names whom it works for, in UTF-8."""
_CERTIFICATE_NAME = "x509_common_name"


def read_caller(context: grpc.aio.ServicerContext) -> str:
    """The name in the client's certificate; without one the name that the client gives, "" when it gives none."""
    proven = context.auth_context().get(_CERTIFICATE_NAME, [])
    given = [value for key, value in context.invocation_metadata() or () if key == CALLER_KEY]
    named = next(iter([*proven, *given]), b"")
    return short_text(named.decode(errors="replace"))

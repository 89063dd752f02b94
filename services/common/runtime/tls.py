"""The port a server listens on: mutual TLS with files that may change while it runs, or plain and without roles.

gRPC asks for the certificates before each handshake, so a connection made after a change has the new ones and those made before it go on. A handshake that
fails does not reach Python: gRPC itself writes one line with the reason to standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc

from plumbline.certificates import CertificateFiles
from plumbline.fresh_files import FreshFiles
from services.common.runtime.settings import ServiceSettings

log = logging.getLogger(__name__)


def add_port(server: grpc.aio.Server, settings: ServiceSettings) -> int:
    """Let `server` listen where `settings` say; the port's number.

    Raises
    ------
    UnusableFile
        When the certificates can't be used.
    OSError
        When the address can't be had.
    """
    credentials = _credentials(settings.certificates) if settings.certificates else None
    try:
        if credentials:
            return server.add_secure_port(settings.listen, credentials)
        log.info("no TLS and no roles: whoever reaches the port may call everything", extra={"listen": settings.listen})
        return server.add_insecure_port(settings.listen)
    except RuntimeError as error:  # gRPC's, which names no setting
        raise OSError(f"{settings.variable('listen')}: cannot bind {settings.listen}") from error


def _credentials(files: CertificateFiles) -> grpc.ServerCredentials:
    def configure() -> grpc.ServerCertificateConfiguration:
        held = files.read()
        return grpc.ssl_server_certificate_configuration([(held.key, held.chain)], root_certificates=held.authority)

    current = FreshFiles(files.paths, configure)
    first = current.get()
    return grpc.dynamic_ssl_server_credentials(first, _tell_changes(current, first), require_client_authentication=True)


def _tell_changes(
    current: FreshFiles[grpc.ServerCertificateConfiguration], first: grpc.ServerCertificateConfiguration
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """What gRPC asks before a handshake: the configuration when it is another than the last time, None when it is not."""
    told = first

    def tell() -> grpc.ServerCertificateConfiguration | None:
        nonlocal told
        newest = current.get()
        if newest is told:
            return None
        told = newest
        return newest

    return tell

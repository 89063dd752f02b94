"""Asks a gRPC server whether it serves. As a command it is a probe: python -m plumbline.health HOST:PORT [PREFIX], 0 when it does.

PREFIX is that of the variables which name the certificates: kubelet's own gRPC probe can't do TLS.
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.certificates import CertificateFiles
from plumbline.channels import open_channel

_PROBE_TIMEOUT_S = 4.0


def is_serving(address: str, certificates: CertificateFiles | None = None, timeout_s: float = 1.0) -> bool:
    """Whether the gRPC server at `address` says in time that it serves."""
    # A proxy that the environment names is for the world outside.
    with open_channel(address, certificates, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def main() -> None:
    """Probe the server at the address given."""
    address, *prefix = sys.argv[1:]
    certificates = CertificateFiles.from_environment(prefix[0]) if prefix else None
    sys.exit(0 if is_serving(address, certificates, _PROBE_TIMEOUT_S) else 1)


if __name__ == "__main__":
    main()

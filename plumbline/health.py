"""Asks a gRPC server whether it serves. As a command it is a probe, 0 when it does: kubelet's own can do no TLS, and does not reach what listens on a pod's loopback."""

from __future__ import annotations

import argparse
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.certificates import CertificateFiles
from plumbline.channels import open_channel

_PROBE_TIMEOUT_S = 4.0


def is_serving(
    address: str, certificates: CertificateFiles | None = None, timeout_s: float = 1.0, service: str = ""
) -> bool:
    """Whether the gRPC server at `address` says in time that it lives; with a `service`, by its full name, that this can do its work."""
    request = health_pb2.HealthCheckRequest(service=service)
    # A proxy that the environment names is for the world outside.
    with open_channel(address, certificates, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout_s)
        except grpc.RpcError:
            return False
    return answer.status == health_pb2.HealthCheckResponse.SERVING


def main() -> None:
    """Probe the server at the address given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="HOST:PORT")
    parser.add_argument("--certificates", metavar="PREFIX", help="of the variables that name the certificates' files")
    parser.add_argument("--service", default="", help="full name; without one the process is asked about")
    arguments = parser.parse_args()
    certificates = CertificateFiles.from_environment(arguments.certificates) if arguments.certificates else None
    sys.exit(0 if is_serving(arguments.address, certificates, _PROBE_TIMEOUT_S, arguments.service) else 1)


if __name__ == "__main__":
    main()

"""A trainer's gRPC face for commands to talk to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc

from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc


@contextmanager
def serve_trainer(servicer: rpc.TrainerServiceServicer) -> Iterator[str]:
    """Serve until the block ends; yields host:port."""
    server = grpc.server(ThreadPoolExecutor(1))
    rpc.add_TrainerServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()

"""A bundle behind the whole stack, and the callers' side of it: an `Explain` over gRPC on loopback for maps alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np
import tritonclient.grpc as triton

from plumbline.client import MAX_MESSAGE_BYTES, Client
from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout

CALL_TIMEOUT_S = 60.0
LIVE_S = 240.0
"""Patience with a Triton that starts."""


def publish(layout: StackLayout, name: str, bundle: Path, expected_champion: int = 0) -> vision_pb2.ModelVersion:
    """Serve `bundle` as the champion of `name`."""
    path, digest = store_bundle(layout.store, name, bundle)
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        return client.publish(name, path, expected_champion, f"{digest} after {expected_champion}")


class Caller:
    """Asks the explainer at `address`; may be shared by threads."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._stub = rpc.ExplainerServiceStub(self._channel)

    def __enter__(self) -> Caller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def explain(
        self, name: str, method: str, files: Sequence[bytes], without_segments: bool = True
    ) -> pb.ExplainResponse:
        """Raises `grpc.RpcError`."""
        request = pb.ExplainRequest(
            model={"name": name},
            images=[{"data": file} for file in files],
            method=f"ATTRIBUTION_METHOD_{method}",
            without_segments=without_segments,
        )
        return self._stub.Explain(request, timeout=CALL_TIMEOUT_S)


def wait_live(address: str) -> float:
    """When the Triton at `address` said that it is live, by `time.perf_counter`."""
    end = time.perf_counter() + LIVE_S
    with triton.InferenceServerClient(address) as client:
        while time.perf_counter() < end:
            with suppress(triton.InferenceServerException):
                if client.is_server_live(client_timeout=1.0):
                    return time.perf_counter()
            time.sleep(0.05)
    raise RuntimeError(f"Triton was not live within {LIVE_S:.0f} s")


def read_maps(reply: pb.ExplainResponse) -> np.ndarray:
    """(picture, height, width) float32."""
    tensors = (explanation.attribution for explanation in reply.explanations)
    return np.stack([np.frombuffer(tensor.data, "<f4").reshape(tensor.shape) for tensor in tensors])

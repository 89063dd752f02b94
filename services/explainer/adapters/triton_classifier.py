"""The `Classifier` port on Triton's gRPC interface."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import tritonclient.grpc.aio as triton
from tritonclient.utils import InferenceServerException

from services.common.runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    Unavailable,
    Unsupported,
    WrongState,
)
from services.explainer.ports import Inference, LoadLost, Question, ServedVersion
from services.explainer.triton import tensors
from services.explainer.triton.definition import FILES, model_config, model_name, read_model_name

_READY_TIMEOUT_S = 5.0
_OUTAGES = ("UNAVAILABLE", "CANCELLED")  # the second when it shuts down with our call in flight
_DEAD_PROCESS = "is not healthy"  # INTERNAL, while Triton restarts the process that a model runs in
_REFUSALS = {"StatusCode.INTERNAL", "StatusCode.INVALID_ARGUMENT"}


class TritonClassifier:
    """Speaks to one Triton, in which every version is a model of its own: to load one touches no other. `is_gpu` decides where they run.

    Create it inside the running event loop; `close` it there.
    """

    def __init__(self, address: str, load_timeout_s: float, is_gpu: bool = False) -> None:
        # Fast reconnects: Triton may be restarted under us, and callers get UNAVAILABLE until it is back.
        channel_args = [
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
        ]
        self._client = triton.InferenceServerClient(address, channel_args=channel_args)
        self._load_timeout_s = load_timeout_s
        self._is_gpu = is_gpu

    async def infer(
        self,
        served: ServedVersion,
        pixel_values: np.ndarray,
        timeout_s: float,
        question: Question | None = None,
    ) -> Inference:
        """See the port. Batches over Triton's cap are sent in pieces, side by side."""
        pieces = [
            asyncio.create_task(
                self._infer_piece(served, pixel_values[start : start + tensors.MAX_BATCH], timeout_s, question)
            )
            for start in range(0, len(pixel_values), tensors.MAX_BATCH)
        ]
        try:
            answers = await asyncio.gather(*pieces)
        finally:
            # When one piece fails, the others would go on computing answers that nobody takes.
            for piece in pieces:
                piece.cancel()
        found = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        if question is None:
            return Inference(found[tensors.LOGITS])
        return Inference(
            found[tensors.LOGITS],
            found[tensors.ATTRIBUTION],
            found[tensors.DELTA][:, 0],
            found.get(tensors.FAITHFULNESS),
        )

    async def is_ready(self, name: str, version: int) -> bool:
        """See the port."""
        try:
            return await self._client.is_model_ready(model_name(name, version), client_timeout=_READY_TIMEOUT_S)
        except InferenceServerException:
            return False

    async def load(self, served: ServedVersion, bundle: Path) -> None:
        """See the port. Triton reads the bundle under the same path."""
        name, images = model_name(served.name, served.version), served.preprocessor
        shape = (images.channels, images.height_px, images.width_px)
        config = model_config(served.name, served.version, shape, len(served.labels), bundle, self._is_gpu)
        try:
            await self._client.load_model(name, config=config, files=FILES, client_timeout=self._load_timeout_s)
        except InferenceServerException as error:
            told = error.message() or ""
            if _DEAD_PROCESS in told:
                raise LoadLost(f"Triton: load {name}: {told}") from error
            if str(error.status()) in _REFUSALS:
                raise WrongState(f"Triton can't load {name}: {told}") from error
            raise _translate(error, f"load {name}") from error

    async def loaded(self) -> list[tuple[str, int]]:
        """See the port."""
        try:
            # Not the repository's index: it lists folders, and ours are loaded without any.
            statistics = await self._client.get_inference_statistics(client_timeout=_READY_TIMEOUT_S)
        except InferenceServerException as error:
            raise _translate(error, "list what is loaded") from error
        named = [read_model_name(model.name) for model in statistics.model_stats]
        return [each for each in named if each]

    async def unload(self, name: str, version: int) -> None:
        """See the port."""
        named = model_name(name, version)
        try:
            await self._client.unload_model(named, client_timeout=self._load_timeout_s)
        except InferenceServerException as error:
            raise _translate(error, f"unload {named}") from error

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def _infer_piece(
        self, served: ServedVersion, pixel_values: np.ndarray, timeout_s: float, question: Question | None
    ) -> dict[str, np.ndarray]:
        inputs, outputs = list_tensors(pixel_values, question)
        try:
            result = await self._client.infer(
                model_name(served.name, served.version),
                inputs,
                outputs=outputs,
                client_timeout=timeout_s,  # what is over is cancelled in Triton, and the backend passes it over
            )
        except InferenceServerException as error:
            raise _translate(error, f"{served.name} version {served.version}") from error
        return {output.name(): result.as_numpy(output.name()) for output in outputs}


def list_tensors(
    pixel_values: np.ndarray, question: Question | None
) -> tuple[list[triton.InferInput], list[triton.InferRequestedOutput]]:
    """What Triton is sent for a batch (batch, channels, height, width), and what it is asked for."""
    numbers, names = {tensors.TARGET: -1, tensors.METHOD: 0}, [tensors.LOGITS]
    if question:
        numbers = {tensors.TARGET: question.target, tensors.METHOD: tensors.METHOD_NAMES.index(question.method)}
        numbers |= {tensors.CONTRAST: question.contrast} if question.contrast >= 0 else {}
        names += [tensors.ATTRIBUTION, tensors.DELTA]
        names += [tensors.FAITHFULNESS] if question.with_faithfulness else []
    inputs = [
        _input(tensors.PIXEL_VALUES, np.ascontiguousarray(pixel_values, dtype=np.float32), "FP32"),
        *(
            _input(name, np.full((len(pixel_values), 1), number, dtype=np.int64), "INT64")
            for name, number in numbers.items()
        ),
    ]
    return inputs, [triton.InferRequestedOutput(name) for name in names]


def _input(name: str, values: np.ndarray, dtype: str) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), dtype)
    tensor.set_data_from_numpy(values)
    return tensor


def _translate(error: InferenceServerException, what: str) -> Exception:
    """What a failure means to us. What is neither an outage, nor load, nor the model's kind is a bug, there or here."""
    status, message = str(error.status()), error.message() or ""
    if "DEADLINE_EXCEEDED" in status or "timed out" in message.lower():
        return DeadlineExceeded(f"Triton did not answer in time: {what}")
    if tensors.UNFIT in message:
        return InvalidInput("method", message.partition(tensors.UNFIT)[2])
    if "UNIMPLEMENTED" in status:
        return Unsupported(f"{what}: {message}")
    if "NOT_FOUND" in status:
        # We ask only for what the repository holds, so a Triton that does not know it has not loaded it yet.
        return Unavailable(f"Triton has not loaded {what} yet")
    if any(outage in status for outage in _OUTAGES) or _DEAD_PROCESS in message:
        return Unavailable(f"Triton: {what}: {message}")
    return RuntimeError(f"Triton: {what}: {status}: {message}")

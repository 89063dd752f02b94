"""The model as Triton's Python backend runs it: logits always, attributions only for those who ask.

Imported by the two-line `model.py` that each version is loaded with, inside Triton's stub process. One instance answers a whole
batch of requests: one forward pass for all, then each request's attributions on their own, so that its maps don't depend, to the bit,
on the company it came in, and a method that fails fails for who asked for it alone. Passes are bounded, see `ELEMENTS_IN_FLIGHT`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.common.runtime.errors import ServiceError
from services.common.vision.model_bundle import load_bundle
from services.explainer.domain.attribution import FIT_EVERY_NET, METHODS
from services.explainer.domain.attribution.base import Logits, MethodUnfit, attribute_logits
from services.explainer.domain.attribution.faithfulness import measure_faithfulness
from services.explainer.triton import tensors
from services.explainer.triton.definition import BUNDLE

log = logging.getLogger(__name__)

_MODEL, _METHOD = "the model", "the attribution method on this model"


class _CancelledError(Exception):
    """Nobody waits for the answer."""

    def __init__(self) -> None:
        super().__init__("the caller left")


class TritonPythonModel:
    """Triton's contract: `initialize`, `execute`, `finalize`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle that the configuration names."""
        import triton_python_backend_utils as pb_utils  # only there inside Triton's stub

        self._pb = pb_utils
        torch.set_num_threads(1)
        # Convolutions in TF32 keep 10 bits of a number: publications are held against float32, and completeness is measured in it.
        torch.backends.cudnn.allow_tf32 = False
        device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        folder = Path(json.loads(args["model_config"])["parameters"][BUNDLE]["string_value"])
        try:
            self._bundle = load_bundle(folder, device)
        except ServiceError as error:
            raise pb_utils.TritonModelException(error.message) from error

    def execute(self, requests: list[Any]) -> None:
        """Answer each request, in order, as soon as its maps are made: responses that were returned would all wait for the last.

        Nothing is raised, whatever fails: Triton would answer the whole batch with it, those again that were answered, and dies of that (2.51).
        """
        requests = self._drop_cancelled(requests)
        try:
            found = self._classify(requests) if requests else []
        except Exception as error:
            log.exception("no pass over a batch of %d requests", len(requests))
            for request in requests:
                self._send(request, self._refuse(_MODEL, error))
            return
        for request, *rows in zip(requests, *found, strict=True):
            self._send(request, self._respond(request, *rows))

    def finalize(self) -> None:
        """Let the weights go."""
        del self._bundle

    def _drop_cancelled(self, requests: list[Any]) -> list[Any]:
        """Those that somebody waits for: Triton hands over calls, too, that ended while they waited."""
        wanted = []
        for request in requests:
            if request.is_cancelled():
                self._send(request, self._refuse(_MODEL, _CancelledError()))
            else:
                wanted.append(request)
        return wanted

    def _classify(self, requests: list[Any]) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Each request's pixels, where the model is, and logits; all of them in the same passes."""
        pixel_values = [self._read(request, tensors.PIXEL_VALUES).to(self._bundle.device) for request in requests]
        everything, logits = torch.cat(pixel_values), Logits(self._bundle.model)
        with torch.inference_mode():
            parts = everything.split(logits.rows_in_flight(everything))
            answers = torch.cat([logits(part) for part in parts])
        return pixel_values, answers.split([len(pixels) for pixels in pixel_values])

    def _send(self, request: Any, response: Any) -> None:
        try:
            request.get_response_sender().send(response, flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        except Exception:
            # As where shared memory is full. The sender is closed by then: the caller waits until his time is over, the others don't.
            log.exception("no answer sent")

    def _respond(self, request: Any, pixel_values: torch.Tensor, answers: torch.Tensor) -> Any:
        wanted, found = set(request.requested_output_names()), {tensors.LOGITS: answers}
        asks_for_maps = bool(wanted - {tensors.LOGITS})
        try:
            if asks_for_maps:
                found |= self._attribute(request, pixel_values, answers, tensors.FAITHFULNESS in wanted)
            outputs = [
                self._pb.Tensor(name, np.ascontiguousarray(value.cpu().numpy(), dtype=np.float32))
                for name, value in found.items()
                if name in wanted
            ]
            return self._pb.InferenceResponse(output_tensors=outputs)
        except Exception as error:
            # Any architecture may meet any method here, and torch has many ways of not getting along with one.
            return self._refuse(_METHOD if asks_for_maps else _MODEL, error)

    def _attribute(
        self, request: Any, pixel_values: torch.Tensor, answers: torch.Tensor, with_faithfulness: bool
    ) -> dict[str, torch.Tensor]:
        """A request has one method and at most one contrast, those of its first row; targets are by row."""

        def check_wanted() -> None:
            if request.is_cancelled():
                raise _CancelledError

        name = tensors.METHOD_NAMES[int(self._read(request, tensors.METHOD)[0, 0])]
        contrast = self._read(request, tensors.CONTRAST)
        logits = Logits(self._bundle.model, None if contrast is None else int(contrast[0, 0]), before_pass=check_wanted)
        targets = self._read(request, tensors.TARGET)[:, 0].to(pixel_values.device)
        targets = torch.where(targets < 0, answers.argmax(dim=1), targets)
        try:
            result = attribute_logits(METHODS[name], logits, pixel_values, targets, self._bundle.baselines)
        except MethodUnfit as error:
            raise MethodUnfit(f"{name}: {error}; methods that fit: {', '.join(FIT_EVERY_NET)}") from error
        found = {tensors.ATTRIBUTION: result.maps, tensors.DELTA: result.completeness_delta[:, None]}
        if with_faithfulness:
            found[tensors.FAITHFULNESS] = measure_faithfulness(
                logits, pixel_values, targets, self._bundle.baselines, result.maps, self._bundle.problem_type
            )
        return found

    def _read(self, request: Any, name: str) -> torch.Tensor | None:
        """An input; None when it is optional and was not sent."""
        tensor = self._pb.get_input_tensor_by_name(request, name)
        return None if tensor is None else torch.from_numpy(tensor.as_numpy().copy())

    def _refuse(self, what: str, error: Exception) -> Any:
        """Memory comes back; that the model does not go with the method, or fails on every picture, stays."""
        errors = self._pb.TritonError
        if isinstance(error, MethodUnfit):
            code, message = errors.INVALID_ARG, f"{tensors.UNFIT}{error}"
        elif isinstance(error, _CancelledError):
            code, message = errors.CANCELLED, str(error)
        else:
            code = errors.UNSUPPORTED if what == _METHOD else errors.INTERNAL
            code = errors.UNAVAILABLE if isinstance(error, torch.OutOfMemoryError) else code
            message = f"{what} failed: {type(error).__name__}: {error}"
        return self._pb.InferenceResponse(error=errors(message, code))

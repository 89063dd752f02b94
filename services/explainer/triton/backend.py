"""The model as Triton's Python backend runs it: logits always, attributions only for those who ask.

Imported by the two-line `model.py` that each version is loaded with, inside Triton's stub process. One instance answers a whole
batch of requests: one forward pass for all, then each request's attributions on their own, so that its maps don't depend, to the bit,
on the company it came in, and a method that fails fails for who asked for it alone. Passes are bounded, see `ELEMENTS_IN_FLIGHT`.
"""

from __future__ import annotations

import json
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
        """Answer each request, in order, as soon as its maps are made: responses that were returned would all wait for the last."""
        requests = self._drop_cancelled(requests)
        if not requests:
            return
        pixel_values = [self._read(request, tensors.PIXEL_VALUES).to(self._bundle.device) for request in requests]
        everything, logits = torch.cat(pixel_values), Logits(self._bundle.model)
        with torch.inference_mode():
            parts = everything.split(logits.rows_in_flight(everything))
            answers = torch.cat([logits(part) for part in parts]).split([len(pixels) for pixels in pixel_values])
        for request, *row in zip(requests, pixel_values, answers, strict=True):
            self._send(request, self._respond(request, *row))

    def finalize(self) -> None:
        """Let the weights go."""
        del self._bundle

    def _drop_cancelled(self, requests: list[Any]) -> list[Any]:
        """Those that somebody waits for: Triton hands over calls, too, that ended while they waited."""
        wanted = []
        for request in requests:
            if request.is_cancelled():
                self._send(request, self._refuse(_CancelledError()))
            else:
                wanted.append(request)
        return wanted

    def _send(self, request: Any, response: Any) -> None:
        request.get_response_sender().send(response, flags=self._pb.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _respond(self, request: Any, pixel_values: torch.Tensor, answers: torch.Tensor) -> Any:
        wanted = set(request.requested_output_names())
        found = {tensors.LOGITS: answers}
        try:
            if wanted - {tensors.LOGITS}:
                found |= self._attribute(request, pixel_values, answers, tensors.FAITHFULNESS in wanted)
        except Exception as error:
            # Any architecture may meet any method here, and torch has many ways of not getting along with one.
            return self._refuse(error)
        outputs = [
            self._pb.Tensor(name, np.ascontiguousarray(value.cpu().numpy(), dtype=np.float32))
            for name, value in found.items()
            if name in wanted
        ]
        return self._pb.InferenceResponse(output_tensors=outputs)

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

    def _refuse(self, error: Exception) -> Any:
        """Memory comes back; that the model does not go with the method stays."""
        code, message = self._pb.TritonError.UNSUPPORTED, f"{type(error).__name__}: {error}"
        if isinstance(error, MethodUnfit):
            code, message = self._pb.TritonError.INVALID_ARG, f"{tensors.UNFIT}{error}"
        elif isinstance(error, torch.OutOfMemoryError):
            code = self._pb.TritonError.UNAVAILABLE
        elif isinstance(error, _CancelledError):
            code = self._pb.TritonError.CANCELLED
        return self._pb.InferenceResponse(
            error=self._pb.TritonError(f"the attribution method failed on this model: {message}", code)
        )

"""The model as Triton's Python backend runs it: logits always, attributions only for those who ask.

Imported by the two-line `model.py` in each version folder, inside Triton's stub process. One instance answers a whole
batch of requests: one forward pass for all, then one attribution pass per method among them. A method that fails fails for those who
asked for it, not for the others in the batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.common.runtime.errors import ServiceError
from services.common.vision.model_bundle import load_bundle
from services.explainer.domain.attribution import METHODS, attribute
from services.explainer.triton import tensors


class TritonPythonModel:
    """Triton's contract: `initialize`, `execute`, `finalize`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the bundle beside this version's `model.py`."""
        import triton_python_backend_utils as pb_utils  # only there inside Triton's stub

        self._pb = pb_utils
        torch.set_num_threads(1)
        # Convolutions in TF32 keep 10 bits of a number: publications are held against float32, and completeness is measured in it.
        torch.backends.cudnn.allow_tf32 = False
        device = "cuda" if args["model_instance_kind"] == "GPU" else "cpu"
        folder = Path(args["model_repository"]) / args["model_version"] / tensors.BUNDLE_FOLDER
        try:
            self._bundle = load_bundle(folder, device)
        except ServiceError as error:
            raise pb_utils.TritonModelException(error.message) from error

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response per request, in order."""
        parts = [self._read(request) for request in requests]
        pixel_values = torch.cat([part["pixels"] for part in parts])
        with torch.inference_mode():
            logits = self._bundle.model(pixel_values=pixel_values).logits
        targets = torch.cat([part["targets"] for part in parts])
        targets = torch.where(targets < 0, logits.argmax(dim=1), targets)
        maps, deltas, failures = self._attribute(parts, pixel_values, targets.clone())
        responses, start = [], 0
        for part in parts:
            rows = slice(start, start + len(part["pixels"]))
            start = rows.stop
            failed = [failures[code] for code in _asked_codes(part) if code in failures]
            if failed:
                responses.append(self._refuse(failed[0]))
            else:
                responses.append(self._answer(part["wanted"], logits[rows], maps[rows], deltas[rows]))
        return responses

    def finalize(self) -> None:
        """Let the weights go."""
        del self._bundle

    def _read(self, request: Any) -> dict[str, Any]:
        def read(name: str) -> torch.Tensor:
            return torch.from_numpy(self._pb.get_input_tensor_by_name(request, name).as_numpy().copy())

        wanted = set(request.requested_output_names())
        methods = read(tensors.METHOD)[:, 0] if wanted & {tensors.ATTRIBUTION, tensors.DELTA} else None
        device = self._bundle.device
        pixels = read(tensors.PIXEL_VALUES).to(device)
        return {
            "pixels": pixels,
            "targets": read(tensors.TARGET)[:, 0].to(device),
            "wanted": wanted,
            "methods": methods,
        }

    def _attribute(
        self, parts: list[dict[str, Any]], pixel_values: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, dict[int, Exception]]:
        """Maps and deltas, zero where nobody asked or the method failed, and the failures by the method's code."""
        failures: dict[int, Exception] = {}
        maps = pixel_values.new_zeros((len(pixel_values), *pixel_values.shape[2:]))
        deltas = pixel_values.new_zeros(len(pixel_values))
        unasked = torch.full((1,), -1)
        codes = torch.cat([unasked.expand(len(p["pixels"])) if p["methods"] is None else p["methods"] for p in parts])
        for code in codes[codes >= 0].unique().tolist():
            rows = torch.nonzero(codes == code).flatten().to(pixel_values.device)
            try:
                method = METHODS[tensors.METHOD_NAMES[code]]
                result = attribute(
                    method, self._bundle.model, pixel_values[rows], targets[rows], self._bundle.baselines
                )
            except Exception as error:
                # Any architecture may meet any method here, and torch has many ways of not getting along with one.
                failures[code] = error
            else:
                maps[rows], deltas[rows] = result.maps, result.completeness_delta
        return maps, deltas, failures

    def _refuse(self, error: Exception) -> Any:
        """Memory comes back; that the model does not go with the method stays."""
        is_memory = isinstance(error, torch.OutOfMemoryError)
        code = self._pb.TritonError.UNAVAILABLE if is_memory else self._pb.TritonError.UNSUPPORTED
        message = f"the attribution method failed on this model: {type(error).__name__}: {error}"
        return self._pb.InferenceResponse(error=self._pb.TritonError(message, code))

    def _answer(self, wanted: set[str], logits: torch.Tensor, maps: torch.Tensor, deltas: torch.Tensor) -> Any:
        found = {tensors.LOGITS: logits, tensors.ATTRIBUTION: maps, tensors.DELTA: deltas[:, None]}
        outputs = [
            self._pb.Tensor(name, np.ascontiguousarray(value.cpu().numpy(), dtype=np.float32))
            for name, value in found.items()
            if name in wanted
        ]
        return self._pb.InferenceResponse(output_tensors=outputs)


def _asked_codes(part: dict[str, Any]) -> list[int]:
    """Codes of the methods that a request asked for; none when it wants logits only."""
    return [] if part["methods"] is None else part["methods"].unique().tolist()

"""What Triton is told of a version when it loads one: a model of its own, whose code is in the package and whose weights are in the bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from services.explainer.triton import tensors

_SHELL = b'''"""Triton loads this file; the model itself is in the package."""

from services.explainer.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
FILES = {"file:1/model.py": _SHELL}
"""The files of every version, by the names that Triton's load call gives them."""
BUNDLE = "bundle"
"""The parameter that says where the bundle lies."""


def model_name(name: str, version: int) -> str:
    """A version's name in Triton. No model's own name has a dot."""
    return f"{name}.{version}"


def read_model_name(named: str) -> tuple[str, int] | None:
    """The model and the version behind a name in Triton; None when it is none of ours."""
    name, _, version = named.rpartition(".")
    return (name, int(version)) if name and version.isdecimal() else None


def model_config(
    name: str, version: int, shape: tuple[int, int, int], class_count: int, bundle: Path, is_gpu: bool
) -> str:
    """Triton's model configuration as JSON, of a version with inputs (channels, height, width)."""
    return json.dumps(
        {
            "name": model_name(name, version),
            "backend": "python",
            "max_batch_size": tensors.MAX_BATCH,
            "input": [
                _tensor(tensors.PIXEL_VALUES, "FP32", *shape),
                _tensor(tensors.TARGET, "INT64", 1),
                _tensor(tensors.METHOD, "INT64", 1),
                _tensor(tensors.CONTRAST, "INT64", 1) | {"optional": True},
            ],
            "output": [
                _tensor(tensors.LOGITS, "FP32", class_count),
                _tensor(tensors.ATTRIBUTION, "FP32", *shape[1:]),
                _tensor(tensors.DELTA, "FP32", 1),
                _tensor(tensors.FAITHFULNESS, "FP32", 2),
            ],
            "instance_group": [{"count": 1, "kind": "KIND_GPU" if is_gpu else "KIND_CPU"}],
            # No priorities, bounds or timeouts: with any of them the batcher sleeps while requests wait (adapters/queued_classifier).
            "dynamic_batching": {},
            "parameters": {BUNDLE: {"string_value": str(bundle.resolve())}},
        }
    )


def _tensor(name: str, kind: str, *dims: int) -> dict[str, Any]:
    return {"name": name, "data_type": f"TYPE_{kind}", "dims": list(dims)}

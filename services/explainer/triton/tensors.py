"""Names on Triton's wire, and the immutable files of a model in its repository."""

from __future__ import annotations

from services.explainer.domain.attribution import METHODS

PIXEL_VALUES = "PIXEL_VALUES"
TARGET = "TARGET"
METHOD = "METHOD"
CONTRAST = "CONTRAST"
LOGITS = "LOGITS"
ATTRIBUTION = "ATTRIBUTION"
DELTA = "COMPLETENESS_DELTA"
FAITHFULNESS = "FAITHFULNESS"

BUNDLE_FOLDER = "bundle"
METHOD_NAMES = tuple(METHODS)
UNFIT = "method unfit: "
"""Before what an error says when a method does not go with a model's architecture."""
MAX_BATCH = 64
MAX_QUEUE = 512

MODEL_SHELL = '''"""Triton loads this file; the model itself is in the package."""

from services.explainer.triton.backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''

_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {max_batch}
input [
  {{ name: "PIXEL_VALUES" data_type: TYPE_FP32 dims: [ {channels}, {height}, {width} ] }},
  {{ name: "TARGET" data_type: TYPE_INT64 dims: [ 1 ] }},
  {{ name: "METHOD" data_type: TYPE_INT64 dims: [ 1 ] }},
  {{ name: "CONTRAST" data_type: TYPE_INT64 dims: [ 1 ] optional: true }}
]
output [
  {{ name: "LOGITS" data_type: TYPE_FP32 dims: [ {classes} ] }},
  {{ name: "ATTRIBUTION" data_type: TYPE_FP32 dims: [ {height}, {width} ] }},
  {{ name: "COMPLETENESS_DELTA" data_type: TYPE_FP32 dims: [ 1 ] }},
  {{ name: "FAITHFULNESS" data_type: TYPE_FP32 dims: [ 2 ] }}
]
version_policy: {{ all: {{ }} }}
instance_group [ {{ count: 1 kind: KIND_{kind} }} ]
dynamic_batching {{
  default_queue_policy {{ max_queue_size: {max_queue} timeout_action: REJECT allow_timeout_override: true }}
}}
"""


def render_config(name: str, shape: tuple[int, int, int], class_count: int, is_gpu: bool) -> str:
    """`config.pbtxt` of a model with inputs (channels, height, width). Written once per model and release, for a change reloads all versions."""
    channels, height, width = shape
    return _CONFIG.format(
        name=name,
        channels=channels,
        height=height,
        width=width,
        classes=class_count,
        max_batch=MAX_BATCH,
        max_queue=MAX_QUEUE,
        kind="GPU" if is_gpu else "CPU",
    )

"""The explainer's numbers; `common.runtime.metrics` counts its calls."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

INFERENCE_SECONDS = Histogram(
    "plumbline_explainer_inference_seconds",
    "Time for Triton's answer to a batch, waiting in its queue included: PREDICT, EXPLAIN.",
    ["question"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
INFERENCE_PICTURES = Histogram(
    "plumbline_explainer_inference_pictures",
    "Pictures in a batch for Triton.",
    ["question"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
INFERENCE_FAILURES = Counter(
    "plumbline_explainer_inference_failures_total",
    "Batches without an answer from Triton, by the kind of error: OVERLOADED where the queue before it was full.",
    ["kind"],
)
SEGMENTATION_WAITING = Gauge(
    "plumbline_explainer_segmentation_waiting", "Calls whose maps wait for their turn to be cut into segments."
)
VERSIONS = Gauge("plumbline_explainer_versions", "Versions of a model in the repository.", ["model"])
VERSIONS_READY = Gauge("plumbline_explainer_versions_ready", "Versions of a model that answer.", ["model"])
CHAMPION_VERSION = Gauge("plumbline_explainer_champion_version", "The version that is the champion.", ["model"])
CHAMPION_READY = Gauge("plumbline_explainer_champion_ready", "1 when the model's champion answers, else 0.", ["model"])

for _kind in ("OVERLOADED", "TIMEOUT", "UNAVAILABLE"):
    INFERENCE_FAILURES.labels(_kind)  # rates of what comes later need a zero to begin with

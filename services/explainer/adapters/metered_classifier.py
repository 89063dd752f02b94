"""A `Classifier` around another: times and traces its answers, and counts how large batches are and why some have none."""

from __future__ import annotations

import numpy as np
from opentelemetry.trace import SpanKind

from services.common.runtime.errors import ServiceError
from services.common.runtime.traces import span
from services.explainer import metrics
from services.explainer.ports import Classifier, Inference, Question, ServedVersion


class MeteredClassifier:
    """Answers as `classifier` does."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.is_ready = classifier.is_ready
        self.load = classifier.load
        self.loaded = classifier.loaded
        self.unload = classifier.unload

    async def infer(
        self,
        served: ServedVersion,
        pixel_values: np.ndarray,
        timeout_s: float,
        question: Question | None = None,
    ) -> Inference:
        """See the port."""
        kind = "EXPLAIN" if question else "PREDICT"
        metrics.INFERENCE_PICTURES.labels(kind).observe(len(pixel_values))
        try:
            traced = span("triton/infer", kind=SpanKind.CLIENT, question=kind, pictures=len(pixel_values))
            with metrics.INFERENCE_SECONDS.labels(kind).time(), traced:
                return await self._classifier.infer(served, pixel_values, timeout_s, question)
        except ServiceError as error:
            metrics.INFERENCE_FAILURES.labels(error.kind).inc()
            raise
        except Exception:
            metrics.INFERENCE_FAILURES.labels("BUG").inc()
            raise

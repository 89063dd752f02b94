"""The `Explainer` port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common import wire
from services.common.runtime.errors import NotFound
from services.trainer.adapters.channel import calling, open_channel
from services.trainer.ports import ExplainedSample, ModelAnswer, Sample

_PREDICT_CHUNK = 256
_NAME = "explainer"


class ExplainerClient:
    """Speaks to one explainer; every call has a deadline."""

    def __init__(self, address: str, timeout_s: float, publish_timeout_s: float) -> None:
        self._stub = rpc.ExplainerServiceStub(open_channel(address))
        self._timeout_s = timeout_s
        self._publish_timeout_s = publish_timeout_s

    def find_model(self, name: str, version: int) -> ModelAnswer:
        """See the port.

        Raises
        ------
        NotFound
            When the explainer serves no such version.
        """
        with calling(_NAME):
            listed = self._stub.ListModels(pb.ListModelsRequest(name=name), timeout=self._timeout_s).models
        for entry in listed:
            if entry.model.version == version or (version == 0 and entry.is_champion):
                return _answer(entry.model, entry.labels)
        raise NotFound(f"model.version: '{name}' has no version {version}")

    def predict(self, model: ModelAnswer, images: Sequence[bytes]) -> np.ndarray:
        """See the port."""
        rows: list[Sequence[float]] = []
        for start in range(0, len(images), _PREDICT_CHUNK):
            chunk = [vision_pb2.Image(data=data) for data in images[start : start + _PREDICT_CHUNK]]
            with calling(_NAME):
                reply = self._stub.Predict(
                    pb.PredictRequest(model=_version(model), images=chunk), timeout=self._timeout_s
                )
            rows += [prediction.probabilities for prediction in reply.predictions]
        return np.array(rows)

    def explain(self, model: ModelAnswer, samples: Sequence[Sample]) -> list[ExplainedSample]:
        """See the port."""
        images = [vision_pb2.Image(data=sample.path.read_bytes(), id=sample.file_name) for sample in samples]
        with calling(_NAME):
            reply = self._stub.Explain(pb.ExplainRequest(model=_version(model), images=images), timeout=self._timeout_s)
        return [
            ExplainedSample(
                sample,
                explanation.target_label,
                tuple(wire.segment_from_proto(segment, "segments") for segment in explanation.segments),
                image.data,
            )
            for sample, image, explanation in zip(samples, images, reply.explanations, strict=True)
        ]

    def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ModelAnswer:
        """See the port."""
        request = pb.PublishModelRequest(
            name=name, bundle_path=bundle_path, expected_champion_version=expected_champion, idempotency_key=key
        )
        with calling(_NAME):
            reply = self._stub.PublishModel(request, timeout=self._publish_timeout_s)
        return _answer(reply.model, ())


def _version(model: ModelAnswer) -> vision_pb2.ModelVersion:
    return vision_pb2.ModelVersion(name=model.name, version=model.version, digest=model.digest)


def _answer(model: vision_pb2.ModelVersion, labels: Sequence[str]) -> ModelAnswer:
    return ModelAnswer(model.name, model.version, model.digest, tuple(labels))

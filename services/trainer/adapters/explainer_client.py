"""The `Explainer` port over gRPC."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
import numpy as np

from plumbline.certificates import CertificateFiles
from plumbline.chunks import call_in_parts, in_chunks
from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common import wire
from services.common.runtime.errors import InvalidInput, NotFound
from services.trainer.adapters.channel import calling, is_too_much, open_channel
from services.trainer.ports import ExplainedSample, ModelAnswer, Sample

_PREDICT_CHUNK = 256
_EXPLAIN_CHUNK = 32
_REFUSED = re.compile(r"images\[(\d+)\]")
_NAME = "explainer"

_Picture = tuple[Sample, vision_pb2.Image]


class ExplainerClient:
    """Speaks to one explainer; every call has a deadline."""

    def __init__(
        self,
        address: str,
        timeout_s: float,
        publish_timeout_s: float,
        certificates: CertificateFiles | None = None,
    ) -> None:
        self._stub = rpc.ExplainerServiceStub(open_channel(address, certificates))
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
                has_several = entry.problem_type == vision_pb2.PROBLEM_TYPE_MULTI_LABEL
                return _answer(entry.model, entry.labels, entry.is_champion, has_several)
        raise NotFound(f"model.version: '{name}' has no version {version}")

    def predict(self, model: ModelAnswer, samples: Sequence[Sample]) -> np.ndarray:
        """See the port."""
        rows: list[Sequence[float]] = []
        for chunk in in_chunks(_read(samples), _PREDICT_CHUNK, _size):
            request = pb.PredictRequest(model=_version(model), images=[image for _, image in chunk])
            with calling(_NAME), _naming_pictures(chunk):
                reply = self._stub.Predict(request, timeout=self._timeout_s)
            rows += [prediction.probabilities for prediction in reply.predictions]
        return np.array(rows)

    def explain(self, model: ModelAnswer, samples: Sequence[Sample]) -> list[ExplainedSample]:
        """See the port."""
        explained: list[ExplainedSample] = []
        for chunk in in_chunks(_read(samples), _EXPLAIN_CHUNK, _size):
            # The maps of large pictures may be more than a message holds; what they come to is not known beforehand.
            for part in call_in_parts(lambda pictures: self._explain(model, pictures), chunk, is_too_much):
                explained += part
        return explained

    def _explain(self, model: ModelAnswer, pictures: Sequence[_Picture]) -> list[ExplainedSample]:
        request = pb.ExplainRequest(model=_version(model), images=[image for _, image in pictures])
        with calling(_NAME), _naming_pictures(pictures):
            reply = self._stub.Explain(request, timeout=self._timeout_s)
        return [
            ExplainedSample(
                sample,
                explanation.target_label,
                tuple(wire.segment_from_proto(segment, "segments") for segment in explanation.segments),
                image.data,
            )
            for (sample, image), explanation in zip(pictures, reply.explanations, strict=True)
        ]

    def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ModelAnswer:
        """See the port."""
        request = pb.PublishModelRequest(
            name=name, bundle_path=bundle_path, expected_champion_version=expected_champion, idempotency_key=key
        )
        with calling(_NAME):
            reply = self._stub.PublishModel(request, timeout=self._publish_timeout_s)
        return _answer(reply.model, (), is_champion=True)


def _read(samples: Sequence[Sample]) -> Iterator[_Picture]:
    return ((sample, vision_pb2.Image(data=sample.path.read_bytes(), id=sample.file_name)) for sample in samples)


def _size(picture: _Picture) -> int:
    return picture[1].ByteSize()


@contextmanager
def _naming_pictures(chunk: Sequence[_Picture]) -> Iterator[None]:
    """Say which file a refusal of images[n] means: nobody but us knows the chunk."""
    try:
        yield
    except grpc.RpcError as error:
        refused = _REFUSED.search(error.details() or "")
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT and refused and int(refused[1]) < len(chunk):
            name = chunk[int(refused[1])][0].file_name
            raise InvalidInput("dataset_path", f"'{name}': {error.details()}") from error
        raise


def _version(model: ModelAnswer) -> vision_pb2.ModelVersion:
    return vision_pb2.ModelVersion(name=model.name, version=model.version, digest=model.digest)


def _answer(
    model: vision_pb2.ModelVersion, labels: Sequence[str], is_champion: bool, has_several_labels: bool = False
) -> ModelAnswer:
    return ModelAnswer(model.name, model.version, model.digest, tuple(labels), is_champion, has_several_labels)

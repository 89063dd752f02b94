"""A stage behind a real gRPC server, as `bootstrap` puts the service together but for Triton."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.server import build_server
from services.common.vision.preprocessing import ImageLimits
from services.explainer.handlers.explaining import Explaining
from services.explainer.handlers.explaining_batches import ExplainingBatches
from services.explainer.handlers.explaining_uploads import ExplainingUploads
from services.explainer.handlers.importing import Importing
from services.explainer.ports import Inference, Question, ServedVersion
from services.explainer.servicer import SERVICE, ExplainerServicer
from services.explainer.settings import ExplainerSettings
from tests.unit.explainer.shadow_stage import ShadowStage


class MapClassifier:
    """The stage's classifier, which has no maps, with evidence in two corners. Keeps how many pictures it was asked about each time."""

    def __init__(self, stage: ShadowStage) -> None:
        self._classifier = stage.classifier
        self.is_ready = stage.classifier.is_ready
        self.asked: list[int] = []

    async def infer(
        self, served: ServedVersion, pixel_values: np.ndarray, timeout_s: float, question: Question | None = None
    ) -> Inference:
        self.asked.append(len(pixel_values))
        answers = await self._classifier.infer(served, pixel_values, timeout_s)
        maps = np.zeros((len(pixel_values), *pixel_values.shape[2:]), dtype=np.float32)
        maps[:, :2, :2], maps[:, 4:, 4:] = 1.0, 2.0
        return Inference(answers.logits, maps, np.zeros(len(maps), dtype=np.float32))


class CountingServicer(ExplainerServicer):
    """Keeps how many of a batch's pictures are taken from the stream and not yet answered, and the most there were."""

    address = ""
    taken = unanswered = most_unanswered = 0

    async def ExplainBatch(self, requests, context):
        async for answer in super().ExplainBatch(self._counted(requests), context):
            self.unanswered -= answer.WhichOneof("content") == "picture"
            yield answer

    async def _counted(self, requests: AsyncIterator[pb.ExplainBatchRequest]) -> AsyncIterator[pb.ExplainBatchRequest]:
        async for request in requests:
            is_picture = request.WhichOneof("content") == "image"
            self.taken += is_picture
            self.unanswered += is_picture
            self.most_unanswered = max(self.most_unanswered, self.unanswered)
            yield request


@asynccontextmanager
async def serve_stage(
    stage: ShadowStage, limits: ImageLimits | None = None, max_message_bytes: int = 64 * 2**20
) -> AsyncIterator[tuple[rpc.ExplainerServiceStub, CountingServicer]]:
    """Calls to the service on `stage`, its classifier with maps, and the servicer that answers them."""
    limits = limits or ImageLimits()
    settings = ExplainerSettings(
        listen="127.0.0.1:0",
        triton_address="127.0.0.1:1",
        model_repository=stage.root,
        store_root=str(stage.root),
        max_message_bytes=max_message_bytes,
    )
    classifier = MapClassifier(stage)
    explaining = Explaining(classifier, stage.versions, stage.shadowing)
    servicer = CountingServicer(
        explaining,
        ExplainingBatches(explaining, limits, settings.call_timeout_s),
        ExplainingUploads(explaining, limits, settings.call_timeout_s),
        stage.publishing,
        Importing(stage.publishing, FolderStore(stage.root), limits),
        stage.rolling_back,
        stage.setting,
        stage.shadowing,
        classifier,
        stage.repository,
        limits,
        settings.call_timeout_s,
        settings.max_message_bytes,
    )
    server, _ = build_server(settings, [SERVICE])
    rpc.add_ExplainerServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port(settings.listen)}"
    await server.start()
    async with grpc.aio.insecure_channel(servicer.address) as channel:
        yield rpc.ExplainerServiceStub(channel), servicer
    await server.stop(None)

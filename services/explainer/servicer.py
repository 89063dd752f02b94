"""`plumbline.explainer.v1` to our use cases and back, nothing else."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing

import grpc
import numpy as np

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.uploads import in_pieces
from services.common import wire
from services.common.runtime.callers import read_caller
from services.common.runtime.errors import DeadlineExceeded, InvalidInput, Overloaded, ServiceError
from services.common.vision.preprocessing import ImageLimits
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.decoding import decode_pictures
from services.explainer.handlers.explaining import Explaining, ExplainOptions, PictureExplanation
from services.explainer.handlers.explaining_batches import ExplainingBatches
from services.explainer.handlers.explaining_uploads import ExplainedUpload, ExplainingUploads, Upload
from services.explainer.handlers.importing import Importing
from services.explainer.handlers.listing import list_versions
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.setting_shadow import SettingShadow
from services.explainer.handlers.shadowing import Shadowing
from services.explainer.messages import (
    read_batch_options,
    read_images,
    read_masks,
    read_options,
    read_pieces,
    read_upload,
    write_comparison,
    write_error,
    write_explained,
    write_explanation,
    write_explanations,
    write_import,
    write_listed,
    write_model,
    write_prediction,
)
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

SERVICE = pb.DESCRIPTOR.services_by_name["ExplainerService"].full_name
MAX_PREDICTED = 256
MAX_EXPLAINED = 64
_MARGIN_S = 0.1  # kept for the way back, so that our own DEADLINE_EXCEEDED still arrives


class ExplainerServicer(rpc.ExplainerServiceServicer):
    """The gRPC face."""

    def __init__(
        self,
        explaining: Explaining,
        explaining_batches: ExplainingBatches,
        explaining_uploads: ExplainingUploads,
        publishing: Publishing,
        importing: Importing,
        rolling_back: RollingBack,
        setting_shadow: SettingShadow,
        shadowing: Shadowing,
        classifier: Classifier,
        repository: ModelRepository,
        limits: ImageLimits,
        call_timeout_s: float,
        max_message_bytes: int,
    ) -> None:
        self._explaining = explaining
        self._explaining_batches = explaining_batches
        self._explaining_uploads = explaining_uploads
        self._publishing = publishing
        self._importing = importing
        self._rolling_back = rolling_back
        self._setting_shadow = setting_shadow
        self._shadowing = shadowing
        self._classifier = classifier
        self._repository = repository
        self._limits = limits
        self._call_timeout_s = call_timeout_s
        self._max_message_bytes = max_message_bytes

    async def Predict(self, request: pb.PredictRequest, context: grpc.aio.ServicerContext) -> pb.PredictResponse:
        model = request.model
        with self._budget(context) as budget:
            pictures = await self._read_pictures(request.images, MAX_PREDICTED, budget)
            served, predictions = await self._explaining.predict(
                model.name, model.version, model.digest, pictures, budget
            )
        messages = [write_prediction(served, prediction) for prediction in predictions]
        return pb.PredictResponse(model=write_model(served), predictions=messages)

    async def Explain(self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext) -> pb.ExplainResponse:
        model, options = request.model, read_options(request)
        with self._budget(context) as budget:
            pictures = await self._read_pictures(request.images, MAX_EXPLAINED, budget)
            masks = await asyncio.to_thread(read_masks, request.masks, pictures)
            served, explanations = await self._explaining.explain(
                model.name, model.version, model.digest, pictures, options, budget, masks
            )
        # Digests and run-length encodings of large pictures take long enough to hold other calls up.
        messages = await asyncio.to_thread(write_explanations, served, options, request.images, explanations)
        return write_explained(served, options, messages)

    async def ExplainBatch(
        self, requests: AsyncIterator[pb.ExplainBatchRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ExplainBatchResponse]:
        asked = await read_batch_options(requests)
        options = read_options(asked)
        served = self._explaining.pin(asked.model.name, asked.model.version, asked.model.digest, options)
        yield pb.ExplainBatchResponse(options=write_explained(served, options, []))
        index = 0
        with _whole_call(context) as budget:
            answers = self._explaining_batches.explain(served, read_images(requests), options, budget)
            async with aclosing(answers):
                async for image, answer in answers:
                    yield await asyncio.to_thread(self._batch_response, served, options, index, image, answer)
                    index += 1

    async def ExplainUpload(
        self, requests: AsyncIterator[pb.ExplainUploadRequest], context: grpc.aio.ServicerContext
    ) -> None:
        """A coroutine that writes, no generator: one whose caller leaves keeps its place until it is collected."""
        asked = await read_upload(requests)
        options, model = read_options(asked.options), asked.options.model
        served = self._explaining.pin(model.name, model.version, model.digest, options)
        upload = Upload(asked.size_bytes, asked.frame)
        with _whole_call(context) as budget:
            explaining = self._explaining_uploads.explain(served, upload, read_pieces(requests), options, budget)
            async with explaining as explained:
                try:
                    async with asyncio.timeout(self._call_timeout_s):
                        await _write_upload(context, asked, options, served, explained)
                except TimeoutError as error:
                    raise DeadlineExceeded("no time is left: the answer was not taken") from error

    async def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListModelsResponse:
        listed = await list_versions(self._classifier, self._repository, request.name)
        return pb.ListModelsResponse(models=map(write_listed, listed))

    async def PublishModel(
        self, request: pb.PublishModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.PublishModelResponse:
        served = await self._publishing.publish(
            request.name,
            request.bundle_path,
            request.expected_champion_version,
            request.idempotency_key,
            read_caller(context),
            request.as_shadow,
        )
        return pb.PublishModelResponse(model=write_model(served))

    async def ImportModel(
        self, request: pb.ImportModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.ImportModelResponse:
        imported = await self._importing.import_folder(
            request.name,
            request.folder_path,
            [(picture.data, picture.frame) for picture in request.pictures],
            request.expected_champion_version,
            request.idempotency_key,
            read_caller(context),
        )
        return write_import(imported)

    async def RollBackModel(
        self, request: pb.RollBackModelRequest, context: grpc.aio.ServicerContext
    ) -> pb.RollBackModelResponse:
        served = await self._rolling_back.roll_back(
            request.name,
            request.version,
            request.expected_champion_version,
            request.reason,
            request.idempotency_key,
            read_caller(context),
        )
        return pb.RollBackModelResponse(model=write_model(served), repeats_version=served.repeats_version)

    async def SetShadow(self, request: pb.SetShadowRequest, context: grpc.aio.ServicerContext) -> pb.SetShadowResponse:
        shadow = await self._setting_shadow.set(request.name, request.version, read_caller(context))
        return pb.SetShadowResponse(shadow=write_model(shadow) if shadow else None)

    async def GetShadow(self, request: pb.GetShadowRequest, context: grpc.aio.ServicerContext) -> pb.GetShadowResponse:
        shadow, comparison = self._shadowing.find(request.name)
        reply = pb.GetShadowResponse(share=self._shadowing.options.share)
        if shadow:
            reply.shadow.CopyFrom(write_model(shadow))
        if comparison:
            reply.MergeFrom(write_comparison(comparison))
        return reply

    async def _read_pictures(self, images: Sequence[vision_pb2.Image], most: int, budget: Budget) -> list[np.ndarray]:
        if not 1 <= len(images) <= most:
            raise InvalidInput("images", f"expected 1 to {most} pictures, got {len(images)}")
        files = [(image.data, image.frame) for image in images]
        return await asyncio.to_thread(decode_pictures, files, self._limits, budget)

    def _batch_response(
        self,
        served: ServedVersion,
        options: ExplainOptions,
        index: int,
        image: vision_pb2.Image,
        answer: PictureExplanation | ServiceError,
    ) -> pb.ExplainBatchResponse:
        """The answer to one picture; one that is larger than a message would end the stream, and becomes a refusal."""
        outcome = pb.PictureOutcome(index=index, image_id=image.id or "image", image_digest=wire.image_digest(image))
        if isinstance(answer, ServiceError):
            outcome.error.CopyFrom(write_error(answer))
        else:
            explanation = write_explanation(served, options, image.id, outcome.image_digest, answer)
            outcome.explanation.CopyFrom(explanation)
        response = pb.ExplainBatchResponse(picture=outcome)
        size = response.ByteSize()
        if size > self._max_message_bytes:
            message = f"image.data: its explanation takes {size} bytes; at most {self._max_message_bytes} are sent, so send it smaller"
            response.picture.error.CopyFrom(write_error(Overloaded(message)))
        return response

    def _budget(self, context: grpc.aio.ServicerContext) -> Budget:
        remaining = context.time_remaining()
        budget = Budget.of(
            self._call_timeout_s if remaining is None else min(self._call_timeout_s, remaining - _MARGIN_S)
        )
        budget.remaining_s("nothing was begun")
        return budget


async def _write_upload(
    context: grpc.aio.ServicerContext,
    asked: pb.Upload,
    options: ExplainOptions,
    served: ServedVersion,
    explained: ExplainedUpload,
) -> None:
    """The answer, its map and its overlay in pieces."""
    explanation = await asyncio.to_thread(
        write_explanation, served, options, asked.image_id, explained.image_digest, explained.explanation
    )
    evidence, overlay = explanation.attribution.data, explanation.overlay_png
    explanation.attribution.ClearField("data")
    explanation.ClearField("overlay_png")
    answer = write_explained(served, options, [explanation])
    await context.write(pb.ExplainUploadResponse(explained=answer))
    for piece in in_pieces(evidence):
        await context.write(pb.ExplainUploadResponse(attribution_piece=piece))
    for piece in in_pieces(overlay):
        await context.write(pb.ExplainUploadResponse(overlay_piece=piece))


def _whole_call(context: grpc.aio.ServicerContext) -> Budget:
    """The caller's time, without end where there is no deadline."""
    remaining = context.time_remaining()
    return Budget.of(math.inf if remaining is None else remaining - _MARGIN_S)

"""`plumbline.explainer.v1` to our use cases and back, nothing else."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict

import grpc
import numpy as np

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.uploads import in_pieces
from services.common import wire
from services.common.runtime.callers import read_caller
from services.common.runtime.errors import DeadlineExceeded, InvalidInput, Overloaded, ServiceError
from services.common.runtime.grpc_status import to_status
from services.common.vision.masks import decode_mask
from services.common.vision.preprocessing import ImageLimits
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS
from services.explainer.domain.attribution.base import ELEMENTS_IN_FLIGHT
from services.explainer.domain.attribution.faithfulness import STEP_COUNT
from services.explainer.domain.comparison import Comparison
from services.explainer.domain.segmentation.segments import MAX_SEGMENTS, SegmentationOptions
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.decoding import decode_pictures
from services.explainer.handlers.explaining import Explaining, ExplainOptions, PictureExplanation, Prediction
from services.explainer.handlers.explaining_batches import ExplainingBatches
from services.explainer.handlers.explaining_uploads import ExplainedUpload, ExplainingUploads, Upload
from services.explainer.handlers.importing import ImportedModel, Importing
from services.explainer.handlers.listing import list_versions
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.setting_shadow import SettingShadow
from services.explainer.handlers.shadowing import Shadowing
from services.explainer.ports import Classifier, ModelRepository, ServedVersion

SERVICE = pb.DESCRIPTOR.services_by_name["ExplainerService"].full_name
MAX_PREDICTED = 256
MAX_EXPLAINED = 64
_METHOD_PREFIX = "ATTRIBUTION_METHOD_"
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
        messages = [_prediction(served, prediction) for prediction in predictions]
        return pb.PredictResponse(model=_model(served), predictions=messages)

    async def Explain(self, request: pb.ExplainRequest, context: grpc.aio.ServicerContext) -> pb.ExplainResponse:
        model, options = request.model, _read_options(request)
        with self._budget(context) as budget:
            pictures = await self._read_pictures(request.images, MAX_EXPLAINED, budget)
            masks = await asyncio.to_thread(_read_masks, request.masks, pictures)
            served, explanations = await self._explaining.explain(
                model.name, model.version, model.digest, pictures, options, budget, masks
            )
        # Digests and run-length encodings of large pictures take long enough to hold other calls up.
        messages = await asyncio.to_thread(_explanations, served, options, request.images, explanations)
        return _explain_response(served, options, messages)

    async def ExplainBatch(
        self, requests: AsyncIterator[pb.ExplainBatchRequest], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.ExplainBatchResponse]:
        asked = await _read_batch_options(requests)
        options = _read_options(asked)
        served = self._explaining.pin(asked.model.name, asked.model.version, asked.model.digest, options)
        yield pb.ExplainBatchResponse(options=_explain_response(served, options, []))
        index = 0
        with _whole_call(context) as budget:
            answers = self._explaining_batches.explain(served, _read_images(requests), options, budget)
            async with aclosing(answers):
                async for image, answer in answers:
                    yield await asyncio.to_thread(self._batch_response, served, options, index, image, answer)
                    index += 1

    async def ExplainUpload(
        self, requests: AsyncIterator[pb.ExplainUploadRequest], context: grpc.aio.ServicerContext
    ) -> None:
        """A coroutine that writes, no generator: one whose caller leaves keeps its place until it is collected."""
        asked = await _read_upload(requests)
        options, model = _read_options(asked.options), asked.options.model
        served = self._explaining.pin(model.name, model.version, model.digest, options)
        upload = Upload(asked.size_bytes, asked.frame)
        with _whole_call(context) as budget:
            explaining = self._explaining_uploads.explain(served, upload, _read_pieces(requests), options, budget)
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
        return pb.ListModelsResponse(
            models=[
                pb.ServedModel(
                    model=_model(entry.served),
                    is_champion=entry.is_champion,
                    is_ready=entry.is_ready,
                    labels=entry.served.labels,
                    provenance_json=json.dumps(entry.served.provenance),
                    repeats_version=entry.served.repeats_version,
                    is_shadow=entry.is_shadow,
                    as_shadow=entry.served.as_shadow,
                    problem_type=_problem_type(entry.served),
                )
                for entry in listed
            ]
        )

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
        return pb.PublishModelResponse(model=_model(served))

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
        return _import_response(imported)

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
        return pb.RollBackModelResponse(model=_model(served), repeats_version=served.repeats_version)

    async def SetShadow(self, request: pb.SetShadowRequest, context: grpc.aio.ServicerContext) -> pb.SetShadowResponse:
        shadow = await self._setting_shadow.set(request.name, request.version, read_caller(context))
        return pb.SetShadowResponse(shadow=_model(shadow) if shadow else None)

    async def GetShadow(self, request: pb.GetShadowRequest, context: grpc.aio.ServicerContext) -> pb.GetShadowResponse:
        shadow, comparison = self._shadowing.find(request.name)
        reply = pb.GetShadowResponse(share=self._shadowing.options.share)
        if shadow:
            reply.shadow.CopyFrom(_model(shadow))
        if comparison:
            reply.MergeFrom(_comparison(comparison))
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
            outcome.error.CopyFrom(_picture_error(answer))
        else:
            explanation = _explanation(served, options, image.id, outcome.image_digest, answer)
            outcome.explanation.CopyFrom(explanation)
        response = pb.ExplainBatchResponse(picture=outcome)
        size = response.ByteSize()
        if size > self._max_message_bytes:
            message = f"image.data: its explanation takes {size} bytes; at most {self._max_message_bytes} are sent, so send it smaller"
            response.picture.error.CopyFrom(_picture_error(Overloaded(message)))
        return response

    def _budget(self, context: grpc.aio.ServicerContext) -> Budget:
        remaining = context.time_remaining()
        budget = Budget.of(
            self._call_timeout_s if remaining is None else min(self._call_timeout_s, remaining - _MARGIN_S)
        )
        budget.remaining_s("nothing was begun")
        return budget


async def _read_batch_options(requests: AsyncIterator[pb.ExplainBatchRequest]) -> pb.ExplainRequest:
    """What the first message of a batch asks for."""
    async for request in requests:
        if request.WhichOneof("content") != "options":
            break
        _check_options(request.options, "options", "pictures follow, one in a message")
        return request.options
    raise InvalidInput("options", "missing; expected in the first message")


def _check_options(options: pb.ExplainRequest, field: str, what_follows: str) -> None:
    """Options that go before what they are for hold no pictures, and no masks."""
    if options.images:
        raise InvalidInput(f"{field}.images", f"expected none: {what_follows}")
    if options.masks:
        raise InvalidInput(f"{field}.masks", "expected none: maps are held against masks by Explain alone")


def _read_masks(masks: Sequence[vision_pb2.Mask], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The masks of the pictures, or none."""
    if not masks:
        return []
    if len(masks) != len(pictures):
        raise InvalidInput("masks", f"expected none, or one for each of {len(pictures)} pictures, got {len(masks)}")
    decoded = []
    for index, (mask, picture) in enumerate(zip(masks, pictures, strict=True)):
        field, (height, width) = f"masks[{index}]", picture.shape[:2]
        if (mask.height_px, mask.width_px) != (height, width):
            raise InvalidInput(
                field, f"expected the picture's size, {height}×{width}, got {mask.height_px}×{mask.width_px}"
            )
        decoded.append(decode_mask(mask.counts, height, width, field))
        if not decoded[-1].any():
            raise InvalidInput(field, "expected at least one pixel")
    return decoded


async def _read_images(requests: AsyncIterator[pb.ExplainBatchRequest]) -> AsyncIterator[vision_pb2.Image]:
    """The pictures of the messages after the first."""
    async for request in requests:
        if request.WhichOneof("content") != "image":
            raise InvalidInput("image", "missing; expected in every message after the first")
        yield request.image


async def _read_upload(requests: AsyncIterator[pb.ExplainUploadRequest]) -> pb.Upload:
    """What the first message says of the file that follows."""
    async for request in requests:
        if request.WhichOneof("content") != "upload":
            break
        _check_options(request.upload.options, "upload.options", "the file follows, in pieces")
        return request.upload
    raise InvalidInput("upload", "missing; expected in the first message")


async def _read_pieces(requests: AsyncIterator[pb.ExplainUploadRequest]) -> AsyncIterator[bytes]:
    """The bytes of the messages after the first."""
    async for request in requests:
        if request.WhichOneof("content") != "piece":
            raise InvalidInput("piece", "missing; expected in every message after the first")
        yield request.piece


async def _write_upload(
    context: grpc.aio.ServicerContext,
    asked: pb.Upload,
    options: ExplainOptions,
    served: ServedVersion,
    explained: ExplainedUpload,
) -> None:
    """The answer, its map and its overlay in pieces."""
    explanation = await asyncio.to_thread(
        _explanation, served, options, asked.image_id, explained.image_digest, explained.explanation
    )
    evidence, overlay = explanation.attribution.data, explanation.overlay_png
    explanation.attribution.ClearField("data")
    explanation.ClearField("overlay_png")
    answer = _explain_response(served, options, [explanation])
    await context.write(pb.ExplainUploadResponse(explained=answer))
    for piece in in_pieces(evidence):
        await context.write(pb.ExplainUploadResponse(attribution_piece=piece))
    for piece in in_pieces(overlay):
        await context.write(pb.ExplainUploadResponse(overlay_piece=piece))


def _whole_call(context: grpc.aio.ServicerContext) -> Budget:
    """The caller's time, without end where there is no deadline."""
    remaining = context.time_remaining()
    return Budget.of(math.inf if remaining is None else remaining - _MARGIN_S)


def _read_options(request: pb.ExplainRequest) -> ExplainOptions:
    if request.method not in pb.AttributionMethod.values():
        raise InvalidInput("method", f"unknown method {request.method}; expected one of {', '.join(METHODS)}")
    method = pb.AttributionMethod.Name(request.method).removeprefix(_METHOD_PREFIX)
    most, kept = request.segmentation.max_segments, request.segmentation.kept_evidence
    if not 0 <= most <= MAX_SEGMENTS:
        raise InvalidInput(
            "segmentation.max_segments", f"expected 1 to {MAX_SEGMENTS}, or 0 for the default; got {most}"
        )
    if not 0 <= kept <= 1:
        raise InvalidInput("segmentation.kept_evidence", f"expected more than 0 and at most 1, got {kept}")
    if request.without_segments and request.HasField("segmentation"):
        raise InvalidInput(
            "segmentation", "given for segments that `without_segments` leaves out; expected one of the two"
        )
    default = SegmentationOptions()
    return ExplainOptions(
        target_label=request.target_label,
        method=DEFAULT_METHOD if method == "UNSPECIFIED" else method,
        segmentation=None
        if request.without_segments
        else SegmentationOptions(most or default.max_segments, kept or default.kept_evidence_ratio),
        with_overlay=request.with_overlay,
        contrast_label=request.contrast_label,
        with_faithfulness=request.with_faithfulness,
    )


def _model(served: ServedVersion) -> vision_pb2.ModelVersion:
    return vision_pb2.ModelVersion(name=served.name, version=served.version, digest=served.digest)


def _import_response(imported: ImportedModel) -> pb.ImportModelResponse:
    golden, randomisation = imported.checks.golden_request, imported.checks.parameter_randomisation
    return pb.ImportModelResponse(
        model=_model(imported.served),
        bundle_path=imported.bundle_path,
        golden_request=pb.GoldenRequest(**asdict(golden)),
        parameter_randomisation=pb.ParameterRandomisation(
            **asdict(randomisation) | {"method": _METHOD_PREFIX + randomisation.method}
        ),
    )


def _comparison(comparison: Comparison) -> pb.GetShadowResponse:
    return pb.GetShadowResponse(
        champion_version=comparison.champion_version,
        shadow_version=comparison.shadow_version,
        since=wire.timestamp_to_proto(comparison.since),
        picture_count=comparison.picture_count,
        agreement=comparison.agreement,
        mean_difference=comparison.mean_difference,
        labels=comparison.labels,
        confusion=comparison.confusion.flatten().tolist(),
        failed_count=comparison.failed_count,
        dropped_count=comparison.dropped_count,
    )


def _prediction(served: ServedVersion, prediction: Prediction) -> vision_pb2.Prediction:
    return vision_pb2.Prediction(
        label=prediction.label,
        probabilities=prediction.probabilities,
        labels=served.labels,
        predicted_labels=prediction.labels,
        problem_type=_problem_type(served),
    )


def _problem_type(served: ServedVersion) -> vision_pb2.ProblemType:
    return vision_pb2.ProblemType.Value(f"PROBLEM_TYPE_{served.problem_type.name}")


def _explain_response(
    served: ServedVersion, options: ExplainOptions, explanations: Sequence[pb.Explanation]
) -> pb.ExplainResponse:
    return pb.ExplainResponse(
        model=_model(served),
        explanations=explanations,
        method=_METHOD_PREFIX + options.method,
        method_parameters_json=json.dumps(
            METHODS[options.method].parameters | {"elements_in_flight": ELEMENTS_IN_FLIGHT}
        ),
        segmentation=options.segmentation
        and pb.SegmentationOptions(
            max_segments=options.segmentation.max_segments,
            kept_evidence=options.segmentation.kept_evidence_ratio,
        ),
    )


def _picture_error(error: ServiceError) -> pb.PictureError:
    """The status of `error`; the two messages have the same fields."""
    return pb.PictureError.FromString(to_status(error).SerializeToString())


def _explanations(
    served: ServedVersion,
    options: ExplainOptions,
    images: Sequence[vision_pb2.Image],
    explanations: Sequence[PictureExplanation],
) -> list[pb.Explanation]:
    return [
        _explanation(served, options, image.id, wire.image_digest(image), explanation)
        for image, explanation in zip(images, explanations, strict=True)
    ]


def _explanation(
    served: ServedVersion,
    options: ExplainOptions,
    image_id: str,
    image_digest: str,
    explanation: PictureExplanation,
) -> pb.Explanation:
    faithfulness = explanation.faithfulness and pb.Faithfulness(
        deletion_auc=explanation.faithfulness.deletion_auc,
        insertion_auc=explanation.faithfulness.insertion_auc,
        steps=STEP_COUNT,
    )
    evidence = np.ascontiguousarray(explanation.attribution, dtype="<f4")
    return pb.Explanation(
        image_id=image_id or "image",
        image_digest=image_digest,
        prediction=_prediction(served, explanation.prediction),
        target_label=explanation.target_label,
        attribution=vision_pb2.Tensor(data=evidence.tobytes(), dtype="float32", shape=evidence.shape),
        segments=[wire.segment_to_proto(segment) for segment in explanation.segments],
        completeness_delta=explanation.completeness_delta,
        overlay_png=explanation.overlay_png,
        contrast_label=options.contrast_label,
        faithfulness=faithfulness,
        localization=explanation.localization and pb.Localization(**asdict(explanation.localization)),
    )

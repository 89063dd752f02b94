"""`plumbline.explainer.v1` messages to our types and back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict

import numpy as np

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from services.common import wire
from services.common.runtime.errors import InvalidInput, ServiceError
from services.common.runtime.grpc_status import to_status
from services.common.vision.masks import decode_mask
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS
from services.explainer.domain.attribution.base import ELEMENTS_IN_FLIGHT
from services.explainer.domain.attribution.faithfulness import STEP_COUNT
from services.explainer.domain.comparison import Comparison
from services.explainer.domain.segmentation.segments import MAX_SEGMENTS, SegmentationOptions
from services.explainer.handlers.explaining import ExplainOptions, PictureExplanation, Prediction
from services.explainer.handlers.importing import ImportedModel
from services.explainer.handlers.listing import ListedVersion
from services.explainer.ports import ServedVersion

_METHOD_PREFIX = "ATTRIBUTION_METHOD_"


async def read_batch_options(requests: AsyncIterator[pb.ExplainBatchRequest]) -> pb.ExplainRequest:
    """What the first message of a batch asks for. Raises: InvalidInput."""
    async for request in requests:
        if request.WhichOneof("content") != "options":
            break
        _check_options(request.options, "options", "pictures follow, one in a message")
        return request.options
    raise InvalidInput("options", "missing; expected in the first message")


def read_masks(masks: Sequence[vision_pb2.Mask], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The masks of the pictures, bool (height, width), or none. Raises: InvalidInput."""
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


async def read_images(requests: AsyncIterator[pb.ExplainBatchRequest]) -> AsyncIterator[vision_pb2.Image]:
    """The pictures of the messages after the first. Raises: InvalidInput."""
    async for request in requests:
        if request.WhichOneof("content") != "image":
            raise InvalidInput("image", "missing; expected in every message after the first")
        yield request.image


async def read_upload(requests: AsyncIterator[pb.ExplainUploadRequest]) -> pb.Upload:
    """What the first message says of the file that follows. Raises: InvalidInput."""
    async for request in requests:
        if request.WhichOneof("content") != "upload":
            break
        _check_options(request.upload.options, "upload.options", "the file follows, in pieces")
        return request.upload
    raise InvalidInput("upload", "missing; expected in the first message")


async def read_pieces(requests: AsyncIterator[pb.ExplainUploadRequest]) -> AsyncIterator[bytes]:
    """The bytes of the messages after the first. Raises: InvalidInput."""
    async for request in requests:
        if request.WhichOneof("content") != "piece":
            raise InvalidInput("piece", "missing; expected in every message after the first")
        yield request.piece


def read_options(request: pb.ExplainRequest) -> ExplainOptions:
    """How to explain, defaults filled in. Raises: InvalidInput."""
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


def write_model(served: ServedVersion) -> vision_pb2.ModelVersion:
    """Which version it is."""
    return vision_pb2.ModelVersion(name=served.name, version=served.version, digest=served.digest)


def write_listed(entry: ListedVersion) -> pb.ServedModel:
    """A version in a list."""
    served = entry.served
    return pb.ServedModel(
        model=write_model(served),
        is_champion=entry.is_champion,
        is_ready=entry.is_ready,
        labels=served.labels,
        provenance_json=json.dumps(served.provenance),
        repeats_version=served.repeats_version,
        is_shadow=entry.is_shadow,
        as_shadow=served.as_shadow,
        problem_type=_problem_type(served),
    )


def write_import(imported: ImportedModel) -> pb.ImportModelResponse:
    """What an import came to, with its checks."""
    golden, randomisation = imported.checks.golden_request, imported.checks.parameter_randomisation
    return pb.ImportModelResponse(
        model=write_model(imported.served),
        bundle_path=imported.bundle_path,
        golden_request=pb.GoldenRequest(**asdict(golden)),
        parameter_randomisation=pb.ParameterRandomisation(
            **asdict(randomisation) | {"method": _METHOD_PREFIX + randomisation.method}
        ),
    )


def write_comparison(comparison: Comparison) -> pb.GetShadowResponse:
    """How a shadow compares, but for the shadow itself."""
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


def write_prediction(served: ServedVersion, prediction: Prediction) -> vision_pb2.Prediction:
    """One picture's prediction."""
    return vision_pb2.Prediction(
        label=prediction.label,
        probabilities=prediction.probabilities,
        labels=served.labels,
        predicted_labels=prediction.labels,
        problem_type=_problem_type(served),
    )


def write_explained(
    served: ServedVersion, options: ExplainOptions, explanations: Sequence[pb.Explanation]
) -> pb.ExplainResponse:
    """An answer with `explanations`, and how they were made."""
    return pb.ExplainResponse(
        model=write_model(served),
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


def write_error(error: ServiceError) -> pb.PictureError:
    """The status of `error`; the two messages have the same fields."""
    return pb.PictureError.FromString(to_status(error).SerializeToString())


def write_explanations(
    served: ServedVersion,
    options: ExplainOptions,
    images: Sequence[vision_pb2.Image],
    explanations: Sequence[PictureExplanation],
) -> list[pb.Explanation]:
    """One for each of `images`, in order."""
    return [
        write_explanation(served, options, image.id, wire.image_digest(image), explanation)
        for image, explanation in zip(images, explanations, strict=True)
    ]


def write_explanation(
    served: ServedVersion,
    options: ExplainOptions,
    image_id: str,
    image_digest: str,
    explanation: PictureExplanation,
) -> pb.Explanation:
    """One picture's explanation; without an id it is called `image`."""
    faithfulness = explanation.faithfulness and pb.Faithfulness(
        deletion_auc=explanation.faithfulness.deletion_auc,
        insertion_auc=explanation.faithfulness.insertion_auc,
        steps=STEP_COUNT,
    )
    evidence = np.ascontiguousarray(explanation.attribution, dtype="<f4")
    return pb.Explanation(
        image_id=image_id or "image",
        image_digest=image_digest,
        prediction=write_prediction(served, explanation.prediction),
        target_label=explanation.target_label,
        attribution=vision_pb2.Tensor(data=evidence.tobytes(), dtype="float32", shape=evidence.shape),
        segments=[wire.segment_to_proto(segment) for segment in explanation.segments],
        completeness_delta=explanation.completeness_delta,
        overlay_png=explanation.overlay_png,
        contrast_label=options.contrast_label,
        faithfulness=faithfulness,
        localization=explanation.localization and pb.Localization(**asdict(explanation.localization)),
    )


def _check_options(options: pb.ExplainRequest, field: str, what_follows: str) -> None:
    """Options that go before what they are for hold no pictures, and no masks."""
    if options.images:
        raise InvalidInput(f"{field}.images", f"expected none: {what_follows}")
    if options.masks:
        raise InvalidInput(f"{field}.masks", "expected none: maps are held against masks by Explain alone")


def _problem_type(served: ServedVersion) -> vision_pb2.ProblemType:
    """How the version's labels exclude each other."""
    return vision_pb2.ProblemType.Value(f"PROBLEM_TYPE_{served.problem_type.name}")

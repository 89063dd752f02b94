"""`plumbline.lvlm.v1` to our use cases and back, nothing else."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

import grpc
import numpy as np

from plumbline.common.v1 import vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common import wire
from services.common.runtime.errors import InvalidInput
from services.common.runtime.traces import name_job
from services.common.vision.phrases import check_phrases
from services.common.vision.preprocessing import ImageLimits, check_request_pixels, decode_image
from services.lvlm import metrics
from services.lvlm.domain.behavior import ClassBehavior, DescribedPicture, Evidence
from services.lvlm.domain.compiling import ClassSentences, compose_specification
from services.lvlm.domain.panels import MAX_SEGMENT_COUNT
from services.lvlm.handlers.compiling import Compiling
from services.lvlm.handlers.describing import Describing
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.handlers.replaying import ReplayedCritique, Replaying, list_differences
from services.lvlm.handlers.together import all_or_none
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.messages import grounded_to_proto

SERVICE = pb.DESCRIPTOR.services_by_name["LvlmService"].full_name
MAX_DESCRIBED = 2048
"""More than the pictures of a class that anybody looks at, so that one call counts and one text is written; pixels are bounded apart."""
MAX_TRANSLATED = 32
MAX_GROUNDED = 32
_DIGEST = re.compile("sha256:[0-9a-f]{64}")


class LvlmServicer(rpc.LvlmServiceServicer):
    """The gRPC face."""

    def __init__(
        self,
        translating: Translating,
        describing: Describing,
        compiling: Compiling,
        grounding: Grounding,
        limits: ImageLimits,
    ) -> None:
        self._translating = translating
        self._replaying = Replaying(translating)
        self._describing = describing
        self._compiling = compiling
        self._grounding = grounding
        self._limits = limits

    async def TranslateSpecification(
        self, request: pb.TranslateSpecificationRequest, context: grpc.aio.ServicerContext
    ) -> pb.TranslateSpecificationResponse:
        name_job(request.job_id)
        specification = wire.specification_from_proto(request.specification)
        _check_digest(request.model)
        mask_source, rules = wire.mask_source_from_proto(request.mask_source), wire.rules_from_proto(request.rules)
        pictures = await asyncio.to_thread(self._read_pictures, request.images, MAX_TRANSLATED)
        for index, picture in enumerate(pictures):
            if not picture.true_label:
                raise InvalidInput(f"images[{index}].true_label", "empty; the rule of the true class applies")
        critiques = await self._translating.translate(
            request.model.digest, specification, pictures, request.job_id, mask_source, rules
        )
        for critique in critiques:
            metrics.CRITIQUES.labels("FAILED" if critique.failure else "JUDGED").inc()
        return pb.TranslateSpecificationResponse(
            critiques=[wire.critique_to_proto(critique) for critique in critiques],
            provenance=wire.provenance_to_proto(self._translating.provenance),
        )

    async def DescribeBehavior(
        self, request: pb.DescribeBehaviorRequest, context: grpc.aio.ServicerContext
    ) -> pb.DescribeBehaviorResponse:
        pictures = await asyncio.to_thread(self._read_pictures, request.images, MAX_DESCRIBED)
        for index, picture in enumerate(pictures):
            if not picture.target_label:
                raise InvalidInput(f"images[{index}].target_label", "empty; expected the explained class")
        described, classes = await self._describing.describe(pictures)
        return pb.DescribeBehaviorResponse(
            images=[_description(picture) for picture in described],
            classes=[_behavior(behavior) for behavior in classes],
            provenance=wire.provenance_to_proto(self._translating.provenance),
        )

    async def CompileSpecification(
        self, request: pb.CompileSpecificationRequest, context: grpc.aio.ServicerContext
    ) -> pb.CompileSpecificationResponse:
        sentences = [ClassSentences(told.class_name, told.text) for told in request.sentences]
        rules = await self._compiling.compile(request.task, request.class_names, sentences)
        return pb.CompileSpecificationResponse(
            rules=[wire.rule_to_proto(rule) for rule in rules],
            specification=wire.specification_to_proto(compose_specification(request.task, rules)),
            provenance=wire.provenance_to_proto(self._translating.provenance),
        )

    async def GroundPhrases(
        self, request: pb.GroundPhrasesRequest, context: grpc.aio.ServicerContext
    ) -> pb.GroundPhrasesResponse:
        check_phrases(request.phrases, "phrases")
        pictures = await asyncio.to_thread(self._decode_images, request.images)
        found = await all_or_none(self._grounding.ground(pixels, request.phrases) for pixels in pictures.values())
        return pb.GroundPhrasesResponse(
            phrases=[
                grounded_to_proto(image_id, grounded)
                for image_id, of_picture in zip(pictures, found, strict=True)
                for grounded in of_picture
            ],
            provenance=wire.provenance_to_proto(self._grounding.provenance),
        )

    async def ReplayCritiques(
        self, request: pb.ReplayCritiquesRequest, context: grpc.aio.ServicerContext
    ) -> pb.ReplayCritiquesResponse:
        specification = wire.specification_from_proto(request.specification)
        _check_digest(request.model)
        mask_source, rules = wire.mask_source_from_proto(request.mask_source), wire.rules_from_proto(request.rules)
        pictures = await asyncio.to_thread(self._read_pictures, request.images, MAX_TRANSLATED)
        then, now = wire.provenance_from_proto(request.provenance), self._translating.provenance
        stored = [
            wire.critique_from_proto(critique, request.model.digest, then, f"critiques[{index}]")
            for index, critique in enumerate(request.critiques)
        ]
        replayed = await self._replaying.replay(specification, pictures, stored, mask_source, rules)
        return pb.ReplayCritiquesResponse(
            critiques=[_replayed(critique) for critique in replayed],
            differences=list_differences(then, now),
            provenance=wire.provenance_to_proto(now),
        )

    def _decode_images(self, images: Sequence[vision_pb2.Image]) -> dict[str, np.ndarray]:
        """The pictures by their ids, in order."""
        if not 1 <= len(images) <= MAX_GROUNDED:
            raise InvalidInput("images", f"expected 1 to {MAX_GROUNDED} pictures, got {len(images)}")
        check_request_pixels(
            [(f"images[{index}].data", image.data) for index, image in enumerate(images)], self._limits
        )
        pictures: dict[str, np.ndarray] = {}
        for index, image in enumerate(images):
            image_id = image.id or "image"
            if image_id in pictures:
                raise InvalidInput(f"images[{index}].id", f"'{image_id}' stands twice in the request")
            pictures[image_id] = decode_image(image.data, self._limits, f"images[{index}].data", image.frame)
        return pictures

    def _read_pictures(self, images: Sequence[pb.ExplainedImage], most: int) -> list[ExplainedPicture]:
        if not 1 <= len(images) <= most:
            raise InvalidInput("images", f"expected 1 to {most} pictures, got {len(images)}")
        files = [(f"images[{index}].image.data", image.image.data) for index, image in enumerate(images)]
        check_request_pixels(files, self._limits)
        pictures = [self._read_picture(image, f"images[{index}]") for index, image in enumerate(images)]
        seen: set[str] = set()
        for index, picture in enumerate(pictures):
            if picture.image_id in seen:
                raise InvalidInput(f"images[{index}].image.id", f"'{picture.image_id}' stands twice in the request")
            seen.add(picture.image_id)
        return pictures

    def _read_picture(self, message: pb.ExplainedImage, field: str) -> ExplainedPicture:
        pixels = decode_image(message.image.data, self._limits, f"{field}.image.data", message.image.frame)
        if not 1 <= len(message.segments) <= MAX_SEGMENT_COUNT:
            raise InvalidInput(
                f"{field}.segments", f"expected 1 to {MAX_SEGMENT_COUNT} segments, got {len(message.segments)}"
            )
        segments = [
            wire.segment_from_proto(segment, f"{field}.segments[{index}]")
            for index, segment in enumerate(message.segments)
        ]
        for index, segment in enumerate(segments):
            if segment.mask.shape != pixels.shape[:2]:
                height, width = pixels.shape[:2]
                raise InvalidInput(
                    f"{field}.segments[{index}].mask", f"expected the picture's size, {height}×{width} pixels"
                )
        if [segment.index for segment in segments] != list(range(1, len(segments) + 1)):
            raise InvalidInput(f"{field}.segments", "expected the indexes 1, 2, … in order")
        return ExplainedPicture(
            image_id=message.image.id or "image",
            image_digest=wire.image_digest(message.image),
            pixels=pixels,
            target_label=message.target_label,
            true_label=message.true_label,
            segments=tuple(segments),
        )


def _check_digest(model: vision_pb2.ModelVersion) -> None:
    if not _DIGEST.fullmatch(model.digest):
        raise InvalidInput("model.digest", "expected the digest of the model that was explained, 'sha256:<hex>'")


def _description(picture: DescribedPicture) -> pb.ImageDescription:
    return pb.ImageDescription(
        image_id=picture.image_id, target_label=picture.target_label, text=picture.text, covers=picture.covers
    )


def _behavior(behavior: ClassBehavior) -> pb.ClassBehavior:
    source = pb.TEXT_SOURCE_WRITTEN if behavior.is_written else pb.TEXT_SOURCE_COUNTED
    claims = [
        pb.Claim(text=claim.text, things=claim.things, image_ids=claim.image_ids, segments=claim.segments)
        for claim in behavior.claims
    ]
    return pb.ClassBehavior(
        target_label=behavior.evidence.target_label,
        text=behavior.text,
        evidence=[_evidence(item) for item in behavior.evidence.items],
        image_count=behavior.evidence.image_count,
        claims=claims,
        text_source=source,
    )


def _evidence(evidence: Evidence) -> pb.Evidence:
    return pb.Evidence(
        thing=evidence.thing,
        image_ids=evidence.image_ids,
        mean_share=evidence.mean_share,
        shown_image_ids=evidence.shown_in,
        segments=evidence.segments,
    )


def _replayed(replayed: ReplayedCritique) -> pb.ReplayedCritique:
    return pb.ReplayedCritique(
        image_id=replayed.critique.image_id,
        is_same=replayed.is_same,
        changed_segments=replayed.changed_segments,
        critique=wire.critique_to_proto(replayed.critique),
    )

"""Shared messages of `plumbline.common.v1` to our own types and back; no other common module knows protobuf types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from google.protobuf import timestamp_pb2
from pydantic import ValidationError

from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.pictures import picture_digest
from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import Critique, Provenance, Verdict
from services.common.vision.explanation import Segment
from services.common.vision.masks import decode_mask, encode_mask
from services.common.vision.phrases import MAX_PHRASE_LENGTH, check_phrases
from services.common.vision.typed_rules import MaskSource, Polarity, TypedRule

MAX_RULES = 1000


def image_digest(image: vision_pb2.Image) -> str:
    """What names the picture, see `picture_digest`."""
    return picture_digest(image.data, image.frame)


def timestamp_to_proto(moment: datetime) -> timestamp_pb2.Timestamp:
    """A moment, aware of its zone, as its message."""
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(moment)
    return message


def segment_to_proto(segment: Segment) -> vision_pb2.Segment:
    height, width = segment.mask.shape
    mask = vision_pb2.Mask(counts=encode_mask(segment.mask), height_px=height, width_px=width)
    return vision_pb2.Segment(index=segment.index, share=segment.share, mask=mask)


def segment_from_proto(segment: vision_pb2.Segment, field: str) -> Segment:
    """The segment, its mask decoded; `InvalidInput` at `field` when a value is out of range."""
    if segment.index < 1:
        raise InvalidInput(f"{field}.index", f"expected a number from 1, got {segment.index}")
    if not 0 <= segment.share <= 1:
        raise InvalidInput(f"{field}.share", f"expected a share from 0 to 1, got {segment.share}")
    mask = decode_mask(segment.mask.counts, segment.mask.height_px, segment.mask.width_px, f"{field}.mask")
    return Segment(segment.index, segment.share, mask)


def specification_from_proto(
    message: vision_pb2.ClassSpecification, field: str = "specification"
) -> ClassSpecification:
    """The specification; `InvalidInput` below `field` when it is incomplete."""
    rules = tuple(ClassRule(rule.class_name, rule.should_matter, rule.should_not_matter) for rule in message.rules)
    try:
        return ClassSpecification(message.task, rules)
    except InvalidInput as error:
        raise error.below(field) from error


def specification_to_proto(specification: ClassSpecification) -> vision_pb2.ClassSpecification:
    rules = [
        vision_pb2.ClassRule(
            class_name=rule.class_name, should_matter=rule.should_matter, should_not_matter=rule.should_not_matter
        )
        for rule in specification.rules
    ]
    return vision_pb2.ClassSpecification(task=specification.task, rules=rules)


def mask_source_from_proto(value: int) -> MaskSource:
    """The way to the masks; unset means judged. `InvalidInput` at `mask_source` when there is no such way."""
    if value == vision_pb2.MASK_SOURCE_UNSPECIFIED:
        return MaskSource.JUDGED
    if value not in vision_pb2.MaskSource.values():
        raise InvalidInput("mask_source", f"no way {value}; expected one of {', '.join(MaskSource)}")
    return MaskSource(vision_pb2.MaskSource.Name(value).removeprefix("MASK_SOURCE_"))


def mask_source_to_proto(mask_source: MaskSource) -> vision_pb2.MaskSource:
    return vision_pb2.MaskSource.Value(f"MASK_SOURCE_{mask_source.value}")


def rules_from_proto(messages: Sequence[vision_pb2.TypedRule]) -> tuple[TypedRule, ...]:
    """The rules; `InvalidInput` below `rules` when one names no class, no polarity or no phrase that can be looked for."""
    if len(messages) > MAX_RULES:
        raise InvalidInput("rules", f"{len(messages)} rules; at most {MAX_RULES} are taken")
    return tuple(_rule_from_proto(message, f"rules[{index}]") for index, message in enumerate(messages))


def _rule_from_proto(message: vision_pb2.TypedRule, field: str) -> TypedRule:
    if not message.class_name:
        raise InvalidInput(f"{field}.class_name", "expected the name of a class, or 'all'")
    if len(message.concept) > MAX_PHRASE_LENGTH:
        raise InvalidInput(
            f"{field}.concept", f"{len(message.concept)} characters; at most {MAX_PHRASE_LENGTH} are taken"
        )
    if message.polarity not in (vision_pb2.POLARITY_MUST, vision_pb2.POLARITY_MUST_NOT):
        raise InvalidInput(f"{field}.polarity", f"expected one of {', '.join(Polarity)}")
    check_phrases(message.noun_phrases, f"{field}.noun_phrases")
    polarity = Polarity(vision_pb2.Polarity.Name(message.polarity).removeprefix("POLARITY_"))
    return TypedRule(message.class_name, message.concept, polarity, tuple(message.noun_phrases))


def rule_to_proto(rule: TypedRule) -> vision_pb2.TypedRule:
    return vision_pb2.TypedRule(
        class_name=rule.class_name,
        concept=rule.concept,
        polarity=vision_pb2.Polarity.Value(f"POLARITY_{rule.polarity.value}"),
        noun_phrases=rule.noun_phrases,
    )


def critique_to_proto(critique: Critique) -> critique_pb2.Critique:
    verdicts = [
        critique_pb2.SegmentVerdict(
            segment_index=verdict.segment_index,
            verdict=_verdict_to_proto(verdict.verdict),
            share=verdict.share,
            mask=vision_pb2.Mask(
                counts=verdict.mask.counts, height_px=verdict.mask.size[0], width_px=verdict.mask.size[1]
            ),
            judged_verdict=_verdict_to_proto(verdict.judged_verdict),
            grounded_verdict=_verdict_to_proto(verdict.grounded_verdict),
        )
        for verdict in critique.verdicts
    ]
    return critique_pb2.Critique(
        image_id=critique.image_id,
        image_digest=critique.image_digest,
        true_label=critique.true_label,
        reasons=critique.reasons,
        verdicts=verdicts,
        failure=critique.failure,
    )


def _verdict_to_proto(verdict: Verdict | None) -> critique_pb2.Verdict:
    return critique_pb2.Verdict.Value(f"VERDICT_{verdict.value if verdict else 'UNSPECIFIED'}")


def critique_from_proto(
    message: critique_pb2.Critique, model_digest: str, provenance: Provenance, field: str
) -> Critique:
    """The critique that `provenance` made of the model with that digest; `InvalidInput` below `field` when a value is out of range."""
    try:
        return Critique(**critique_content(message), model_digest=model_digest, provenance=provenance)
    except ValidationError as error:
        raise InvalidInput.of_validation(field, error) from error


def critique_content(message: critique_pb2.Critique) -> dict[str, Any]:
    """A critique as its JSON has it, unchecked, without the model and the provenance that the message does not carry."""
    verdicts = [
        {
            "segment_index": verdict.segment_index,
            "verdict": _verdict_name(verdict.verdict),
            "share": verdict.share,
            "mask": {"counts": verdict.mask.counts, "size": (verdict.mask.height_px, verdict.mask.width_px)},
        }
        for verdict in message.verdicts
    ]
    return {
        "image_id": message.image_id,
        "image_digest": message.image_digest,
        "true_label": message.true_label,
        "reasons": message.reasons,
        "verdicts": verdicts,
        "failure": message.failure,
    }


def _verdict_name(value: int) -> str:
    """Our name of a verdict; a number that is none stays one, and is refused with the field."""
    known = value in critique_pb2.Verdict.values()
    return critique_pb2.Verdict.Name(value).removeprefix("VERDICT_") if known else str(value)


def provenance_from_proto(message: critique_pb2.Provenance) -> Provenance:
    return Provenance(**{name: getattr(message, name) for name in Provenance.model_fields})


def provenance_to_proto(provenance: Provenance) -> critique_pb2.Provenance:
    return critique_pb2.Provenance(**provenance.model_dump())

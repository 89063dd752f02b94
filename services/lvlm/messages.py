"""Masks, rules and groundings of `plumbline.lvlm.v1` to our own types and back."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.common.v1 import vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from services.common.runtime.errors import InvalidInput
from services.lvlm.domain.agreement import MaskSource
from services.lvlm.domain.phrases import check_phrases
from services.lvlm.domain.regions import Grounded
from services.lvlm.domain.typed_rules import Polarity, TypedRule

MAX_RULES = 1000


def mask_source_from_proto(value: int) -> MaskSource:
    """The way to the masks; unset means judged. `InvalidInput` at `mask_source` when there is no such way."""
    if value == pb.MASK_SOURCE_UNSPECIFIED:
        return MaskSource.JUDGED
    if value not in pb.MaskSource.values():
        raise InvalidInput("mask_source", f"no way {value}; expected one of {', '.join(MaskSource)}")
    return MaskSource(pb.MaskSource.Name(value).removeprefix("MASK_SOURCE_"))


def rules_from_proto(messages: Sequence[pb.TypedRule]) -> list[TypedRule]:
    """The rules; `InvalidInput` below `rules` when one names no class, no polarity or no phrase that can be looked for."""
    if len(messages) > MAX_RULES:
        raise InvalidInput("rules", f"{len(messages)} rules; at most {MAX_RULES} are taken")
    return [_rule_from_proto(message, f"rules[{index}]") for index, message in enumerate(messages)]


def grounded_to_proto(image_id: str, grounded: Grounded) -> pb.GroundedPhrase:
    message = pb.GroundedPhrase(
        image_id=image_id,
        phrase=grounded.phrase,
        state=pb.GroundingState.Value(f"GROUNDING_STATE_{grounded.state.value}"),
        failure=grounded.failure,
    )
    for refined in grounded.boxes:
        box = refined.box
        message.boxes.add(
            top_px=box.top_px,
            left_px=box.left_px,
            bottom_px=box.bottom_px,
            right_px=box.right_px,
            is_whole=refined.is_whole,
        )
    if grounded.mask:
        height_px, width_px = grounded.mask.size
        message.mask.CopyFrom(vision_pb2.Mask(counts=grounded.mask.counts, height_px=height_px, width_px=width_px))
    return message


def _rule_from_proto(message: pb.TypedRule, field: str) -> TypedRule:
    if not message.class_name:
        raise InvalidInput(f"{field}.class_name", "expected the name of a class, or 'all'")
    if message.polarity not in (pb.POLARITY_MUST, pb.POLARITY_MUST_NOT):
        raise InvalidInput(f"{field}.polarity", f"expected one of {', '.join(Polarity)}")
    check_phrases(message.noun_phrases, f"{field}.noun_phrases")
    polarity = Polarity(pb.Polarity.Name(message.polarity).removeprefix("POLARITY_"))
    return TypedRule(message.class_name, message.concept, polarity, tuple(message.noun_phrases))

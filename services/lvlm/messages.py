"""Groundings as messages of `plumbline.lvlm.v1`."""

from __future__ import annotations

from plumbline.common.v1 import vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from services.lvlm.domain.regions import Grounded


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

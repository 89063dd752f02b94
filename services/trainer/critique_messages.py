"""Critiques, pictures and reviews as `plumbline.trainer.v1` messages and back; the servicer's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from plumbline.common.v1 import vision_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common import wire
from services.common.runtime.errors import InvalidInput
from services.trainer.domain.review import Decision, Standing
from services.trainer.handlers.consuming import Outcome
from services.trainer.handlers.reviewing import AskedDecision
from services.trainer.handlers.watching import ChosenPicture, CritiquedPicture

MAX_BATCH_TEXT = 2**20
"""Characters of a pushed batch: 64 KiB however they are escaped and indented. While JSON is read no thread does anything else."""


def write_critiqued(picture: CritiquedPicture) -> pb.CritiquedImage:
    """A critique with its picture and its review as its message."""
    critique = picture.critique
    return pb.CritiquedImage(
        image=vision_pb2.Image(data=picture.data, id=critique.image_id),
        critique=wire.critique_to_proto(critique),
        provenance=wire.provenance_to_proto(critique.provenance),
        review=_write_review(picture.review) if picture.review else None,
    )


def _write_review(standing: Standing) -> pb.PictureReview:
    decision = standing.decision
    return pb.PictureReview(
        decision=f"REVIEW_DECISION_{decision.decision.value}",
        reviewer=standing.reviewer,
        reviewed_at=wire.timestamp_to_proto(standing.at),
        reason=decision.reason,
        edit=wire.critique_to_proto(decision.edit) if decision.edit else None,
    )


def write_picture(picture: ChosenPicture) -> pb.ChosenPicture:
    """A chosen picture as its message."""
    return pb.ChosenPicture(
        image_id=picture.file_name,
        image_digest=picture.digest,
        true_label=picture.label,
        height_px=picture.height_px,
        width_px=picture.width_px,
        is_critiqued=picture.is_critiqued,
    )


def read_decisions(messages: Sequence[pb.PictureDecision]) -> list[AskedDecision]:
    """A person's decisions from their messages; `InvalidInput` at the decision that is none."""
    return [_read_decision(message, f"decisions[{index}]") for index, message in enumerate(messages)]


def _read_decision(message: pb.PictureDecision, field: str) -> AskedDecision:
    if not message.decision or message.decision not in pb.ReviewDecision.values():
        raise InvalidInput(f"{field}.decision", f"expected one of {', '.join(Decision)}")
    decision = Decision(pb.ReviewDecision.Name(message.decision).removeprefix("REVIEW_DECISION_"))
    edit = wire.critique_content(message.edit) if message.HasField("edit") else None
    return AskedDecision(message.image_digest, decision, message.reason, edit)


def read_batch(text: str) -> Any:
    """What a pushed batch's JSON holds; `InvalidInput` when it is none, or too long to be a batch."""
    if len(text) > MAX_BATCH_TEXT:
        raise InvalidInput("batch_json", f"{len(text)} characters; at most {MAX_BATCH_TEXT} are read")
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput("batch_json", f"not JSON: {error}") from error
    except RecursionError as error:
        raise InvalidInput("batch_json", "nested too deeply") from error


def write_pushed(content: Any, outcome: Outcome, reason: str) -> pb.PushedCritique:
    """What became of a critique as its message; `content` is the critique as it was sent, whatever that is."""
    named = content if isinstance(content, dict) else {}
    image_id, image_digest = (
        _to_unicode(value) if isinstance(value := named.get(name), str) else "" for name in ("image_id", "image_digest")
    )
    return pb.PushedCritique(
        image_id=image_id, image_digest=image_digest, outcome=f"PUSH_OUTCOME_{outcome.value}", reason=reason
    )


def _to_unicode(text: str) -> str:
    """`text` with what no message can carry replaced: JSON can escape half a surrogate pair."""
    return text.encode(errors="replace").decode()

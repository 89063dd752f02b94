"""Requests and critiques that hold, to be changed in one place by each test."""

from __future__ import annotations

from typing import Any

import numpy as np

from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import Critique
from services.common.vision.masks import encode_mask
from services.common.vision.typed_rules import Polarity, TypedRule
from services.trainer.domain.job import AlignmentRequest

MODEL_DIGEST = f"sha256:{'1' * 64}"
SIZE = (8, 8)
SPECIFICATION = ClassSpecification("Tell the stripe.", (ClassRule("all", "the stripe", "the block in the corner"),))
RULES = (
    TypedRule("all", "stripe", Polarity.MUST, ("the stripe",)),
    TypedRule("all", "block", Polarity.MUST_NOT, ("the block in the corner",)),
)


def make_request(**changes: Any) -> AlignmentRequest:
    """A job's request."""
    content = {
        "asked_digest": "asked",
        "model_name": "stripes",
        "model_version": 1,
        "model_digest": MODEL_DIGEST,
        "labels": ["0", "1", "2"],
        "dataset_path": "stripes",
        "specification": SPECIFICATION,
        "images_per_class": 5,
        "epochs": 1,
    }
    return AlignmentRequest(**content | changes)


def make_critique(digest: str = "a" * 64, label: str = "0", name: str = "a.png", **changes: Any) -> Critique:
    """A critique with the corner spurious and the stripe allowed."""
    corner, stripe = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    corner[:2, :2] = stripe[4] = True
    verdicts = [
        {"segment_index": 1, "verdict": "SPURIOUS", "share": 0.7, "mask": _rle(corner)},
        {"segment_index": 2, "verdict": "CORE", "share": 0.3, "mask": _rle(stripe)},
    ]
    content = {
        "image_id": name,
        "image_digest": f"sha256:{digest}",
        "model_digest": MODEL_DIGEST,
        "true_label": label,
        "reasons": "flat block",
        "verdicts": verdicts,
        "provenance": {"engine": "person", "model_id": "test"},
    }
    return Critique.model_validate(content | changes)


def _rle(mask: np.ndarray) -> dict[str, Any]:
    return {"counts": encode_mask(mask), "size": list(mask.shape)}

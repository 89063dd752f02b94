"""Small bundles to publish."""

from __future__ import annotations

from pathlib import Path

import torch

from services.common.vision.model_bundle import save_bundle
from services.common.vision.nets import MlpConfig, MlpForImageClassification
from services.common.vision.problem_type import ProblemType

PREPROCESSING = {"do_resize": True, "size": {"height": 6, "width": 6}, "do_rescale": True, "do_normalize": False}


def write_bundle(
    folder: Path,
    seed: int = 0,
    labels: tuple[str, ...] = ("a", "b"),
    side_px: int = 6,
    problem_type: ProblemType | None = None,
) -> str:
    """Write a bundle of a net with random weights and return its digest."""
    torch.manual_seed(seed)
    config = MlpConfig(
        image_size=side_px,
        hidden_sizes=(4,),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem_type,
    )
    preprocessing = PREPROCESSING | {"size": {"height": side_px, "width": side_px}}
    return save_bundle(folder, MlpForImageClassification(config), preprocessing, None, {"made_by": "test"}, "# card\n")

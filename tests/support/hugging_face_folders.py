"""Tiny image classifiers of transformers with random weights, saved as their users save them, and pictures for them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from services.common.vision.problem_type import ProblemType

LABELS = ("cat", "dog", "owl")
_NAMED = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}
EDGE_PX = 32


def _resnet() -> PreTrainedModel:
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", **_NAMED)
    return ResNetForImageClassification(config)


def _convnext() -> PreTrainedModel:
    config = ConvNextConfig(image_size=EDGE_PX, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], **_NAMED)
    return ConvNextForImageClassification(config)


def _vit() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return ViTForImageClassification(ViTConfig(image_size=EDGE_PX, patch_size=8, **sizes, **_NAMED))


ARCHITECTURES: dict[str, Callable[[], PreTrainedModel]] = {"resnet": _resnet, "convnext": _convnext, "vit": _vit}


def write_model_folder(
    folder: Path, architecture: str = "resnet", seed: int = 1, problem_type: ProblemType | None = None
) -> Path:
    """What `save_pretrained` of model and image processor leaves."""
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture]()
    model.config.problem_type = problem_type and problem_type.value
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": EDGE_PX, "width": EDGE_PX}).save_pretrained(folder)
    return folder


def make_pictures(count: int, seed: int = 0) -> list[bytes]:
    """JPEG files of coarse colours, each of another size."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        file = io.BytesIO()
        coarse.resize((60 + index, 45 + 2 * index), Image.Resampling.BICUBIC).save(file, format="JPEG")
        pictures.append(file.getvalue())
    return pictures

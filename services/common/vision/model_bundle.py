"""A model as a folder: a Hugging Face image-classification checkpoint with provenance and baselines beside it.

`config.json`, `model.safetensors`, `preprocessor_config.json` make the model and its digest; `baselines.safetensors`
(optional: tensor `baselines`, (count, channels, height, width), preprocessed) is what attributions compare with;
`plumbline.json` tells where it came from; `README.md` is the model card. safetensors only, no remote code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedModel

from services.common.runtime.errors import InvalidInput
from services.common.vision.nets import register_nets
from services.common.vision.preprocessing import Preprocessor

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREPROCESSING = "preprocessor_config.json"
BASELINES = "baselines.safetensors"
PROVENANCE = "plumbline.json"
CARD = "README.md"
_DIGESTED = (CONFIG, WEIGHTS, PREPROCESSING, BASELINES)


@dataclass(frozen=True)
class ModelBundle:
    """A loaded bundle. `labels` are in the order of the logits; `baselines` is (count, channels, height, width)."""

    model: PreTrainedModel
    preprocessor: Preprocessor
    labels: tuple[str, ...]
    baselines: torch.Tensor
    digest: str
    provenance: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return self.model.device


def bundle_digest(folder: Path) -> str:
    """SHA-256 over weights, configuration, preprocessing and baselines: "sha256:<hex>".

    Raises
    ------
    InvalidInput
        When one of the three needed files is missing.
    """
    total = hashlib.sha256()
    for name in _DIGESTED:
        path = folder / name
        if not path.is_file():
            if name == BASELINES:
                continue
            raise InvalidInput("bundle", f"{name} is missing; expected a Hugging Face image-classification folder")
        total.update(f"{name}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"


def load_bundle(folder: Path, device: str = "cpu") -> ModelBundle:
    """Load a bundle for inference (eval mode).

    Without baselines of its own a model gets three flat pictures: black, grey and white.

    Raises
    ------
    InvalidInput
        When a file is missing or does not fit the others.
    """
    digest = bundle_digest(folder)
    register_nets()
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        model = AutoModelForImageClassification.from_pretrained(
            folder, config=config, use_safetensors=True, local_files_only=True, attn_implementation=None
        )
    except (ValueError, OSError, KeyError, RuntimeError) as error:
        raise InvalidInput("bundle", f"transformers can't load it: {error}") from error
    preprocessing = json.loads((folder / PREPROCESSING).read_text())
    preprocessor = Preprocessor.from_config(preprocessing, getattr(config, "num_channels", 3))
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    if len(set(labels)) != len(labels):
        raise InvalidInput("bundle", "config.json: id2label names a class twice")
    provenance_file = folder / PROVENANCE
    provenance = json.loads(provenance_file.read_text()) if provenance_file.is_file() else {}
    model = model.eval().to(device)
    return ModelBundle(model, preprocessor, labels, _baselines(folder, preprocessor).to(device), digest, provenance)


def save_bundle(
    folder: Path,
    model: PreTrainedModel,
    preprocessing: dict[str, Any],
    baselines: torch.Tensor | None,
    provenance: dict[str, Any],
    card: str,
) -> str:
    """Write a bundle into `folder` (created, must not hold one) and return its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / CONFIG).exists():
        raise InvalidInput("bundle", "the folder holds a model already")
    model.save_pretrained(folder)
    (folder / PREPROCESSING).write_text(json.dumps(preprocessing, indent=2))
    if baselines is not None:
        save_file({"baselines": baselines.contiguous().cpu()}, folder / BASELINES)
    (folder / PROVENANCE).write_text(json.dumps(provenance, indent=2, sort_keys=True))
    (folder / CARD).write_text(card)
    return bundle_digest(folder)


def _baselines(folder: Path, preprocessor: Preprocessor) -> torch.Tensor:
    shape = (preprocessor.channels, preprocessor.height_px, preprocessor.width_px)
    if (folder / BASELINES).is_file():
        baselines = load_file(folder / BASELINES)["baselines"]
        if tuple(baselines.shape[1:]) != shape or len(baselines) < 2:
            raise InvalidInput(
                "bundle", f"{BASELINES}: expected at least 2 of shape {shape}, got {tuple(baselines.shape)}"
            )
        return baselines
    mean = torch.tensor(preprocessor.mean).view(-1, 1, 1)
    std = torch.tensor(preprocessor.std).view(-1, 1, 1)
    levels = [(level * preprocessor.rescale_factor - mean) / std for level in (0.0, 127.5, 255.0)]
    return torch.stack([level.expand(shape) for level in levels]).float()

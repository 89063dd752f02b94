"""A model as a folder: a Hugging Face image-classification checkpoint with provenance and baselines beside it.

`config.json`, `model.safetensors`, `preprocessor_config.json` make the model and its digest; `baselines.safetensors`
(optional: tensor `baselines`, (count, channels, height, width), preprocessed) is what attributions compare with;
`golden.safetensors` (optional) is what the model must answer, see `golden`; `plumbline.json` tells where it came from; `README.md` is
the model card. safetensors only, no remote code.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel

from services.common.runtime.errors import InvalidInput
from services.common.vision.nets import register_nets
from services.common.vision.preprocessing import Preprocessor
from services.common.vision.problem_type import ProblemType

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PREPROCESSING = "preprocessor_config.json"
BASELINES = "baselines.safetensors"
PROVENANCE = "plumbline.json"
CARD = "README.md"
_DIGESTED = (CONFIG, WEIGHTS, PREPROCESSING, BASELINES)


@dataclass(frozen=True)
class BundleDescription:
    """A bundle without its weights. `labels` are in the order of the logits; `provenance` is its `plumbline.json`."""

    preprocessor: Preprocessor
    labels: tuple[str, ...]
    problem_type: ProblemType
    provenance: dict[str, Any]


@dataclass(frozen=True)
class ModelBundle:
    """A loaded bundle. `labels` are in the order of the logits; `baselines` is (count, channels, height, width)."""

    model: PreTrainedModel
    preprocessor: Preprocessor
    labels: tuple[str, ...]
    problem_type: ProblemType
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
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{name}:{digest}\n".encode())
    return f"sha256:{total.hexdigest()}"


def describe_bundle(folder: Path) -> BundleDescription:
    """What the bundle says of itself, its weights unread.

    Raises
    ------
    InvalidInput
        When a file is missing, unreadable or names something that is not taken.
    Unsupported
        When the preprocessing asks for a step that is not built.
    """
    config, preprocessing = read_config(folder), read_json(folder / PREPROCESSING)
    try:
        preprocessor = Preprocessor.from_config(preprocessing, getattr(config, "num_channels", 3))
    except InvalidInput as error:
        raise InvalidInput("bundle", error.message) from error
    provenance = read_json(folder / PROVENANCE) if (folder / PROVENANCE).is_file() else {}
    return BundleDescription(preprocessor, _read_labels(config), _read_problem_type(config), provenance)


def load_bundle(folder: Path, device: str = "cpu") -> ModelBundle:
    """Load a bundle for inference (eval mode, float32).

    Without baselines of its own a model gets three flat pictures: black, grey and white.

    Raises
    ------
    InvalidInput
        When a file is missing, broken or does not fit the others.
    Unsupported
        When the preprocessing asks for a step that is not built.
    """
    digest = bundle_digest(folder)
    described = describe_bundle(folder)
    baselines = _read_baselines(folder, described.preprocessor)
    model = _load_model(folder).eval().to(device)
    return ModelBundle(
        model,
        described.preprocessor,
        described.labels,
        described.problem_type,
        baselines.to(device),
        digest,
        described.provenance,
    )


def build_untrained(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """The architecture of `config` in eval mode, its parameters drawn as before a training: the same ones for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForImageClassification.from_config(config, dtype=torch.float32, trust_remote_code=False).eval()


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


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a bundle's file.

    Raises
    ------
    InvalidInput
        When there is none.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput("bundle", f"{path.name}: can't be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput("bundle", f"{path.name}: expected a JSON object")
    return content


def read_config(folder: Path) -> PreTrainedConfig:
    """The bundle's `config.json` as `transformers` reads it, our own nets' too.

    Raises
    ------
    InvalidInput
        When it can't be read, or takes the weights from elsewhere.
    """
    if "transformers_weights" in read_json(folder / CONFIG):
        # It names another file to take the weights from, which the digest would not cover.
        raise InvalidInput("bundle", f"{CONFIG}: transformers_weights is not taken; expected the weights in {WEIGHTS}")
    register_nets()
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # A configuration is foreign input, and transformers raises whatever its classes meet in there.
        raise InvalidInput("bundle", f"{CONFIG}: transformers can't read it: {error}") from error


def _read_labels(config: PreTrainedConfig) -> tuple[str, ...]:
    if sorted(config.id2label) != list(range(config.num_labels)):
        raise InvalidInput("bundle", f"{CONFIG}: id2label must number its classes from 0 without a gap")
    labels = tuple(config.id2label[index] for index in range(config.num_labels))
    if not all(isinstance(label, str) and label for label in labels):
        raise InvalidInput("bundle", f"{CONFIG}: id2label must give each class a name")
    if len(set(labels)) != len(labels):
        raise InvalidInput("bundle", f"{CONFIG}: id2label names a class twice")
    return labels


def _read_problem_type(config: PreTrainedConfig) -> ProblemType:
    """One label per picture where the configuration does not say."""
    try:
        return ProblemType(config.problem_type or ProblemType.SINGLE_LABEL)
    except ValueError as error:
        expected = " or ".join(ProblemType)
        raise InvalidInput(
            "bundle", f"{CONFIG}: problem_type is '{config.problem_type}'; expected {expected}"
        ) from error


def _load_model(folder: Path) -> PreTrainedModel:
    try:
        model, info = AutoModelForImageClassification.from_pretrained(
            folder,
            config=read_config(folder),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except InvalidInput:
        raise
    except Exception as error:
        # transformers, safetensors and torch raise their own on files that are cut, mixed up or of another model.
        raise InvalidInput("bundle", f"transformers can't load it: {error}") from error
    # transformers would fill these with random numbers and serve on.
    absent = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
    if absent:
        raise InvalidInput("bundle", f"{WEIGHTS}: missing or of another shape: {', '.join(absent)}")
    return model


def _read_baselines(folder: Path, preprocessor: Preprocessor) -> torch.Tensor:
    shape = (preprocessor.channels, preprocessor.height_px, preprocessor.width_px)
    if not (folder / BASELINES).is_file():
        return _flat_pictures(preprocessor, shape)
    try:
        baselines = load_file(folder / BASELINES)["baselines"]
    except (SafetensorError, OSError, KeyError) as error:
        raise InvalidInput("bundle", f"{BASELINES}: expected a tensor named 'baselines': {error}") from error
    if tuple(baselines.shape[1:]) != shape or len(baselines) < 2:
        raise InvalidInput("bundle", f"{BASELINES}: expected at least 2 of shape {shape}, got {tuple(baselines.shape)}")
    if not baselines.isfinite().all():
        raise InvalidInput("bundle", f"{BASELINES}: holds values that are not finite")
    return baselines.float()


def _flat_pictures(preprocessor: Preprocessor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Black, grey and white, preprocessed."""
    mean = torch.tensor(preprocessor.mean).view(-1, 1, 1)
    std = torch.tensor(preprocessor.std).view(-1, 1, 1)
    levels = [(level * preprocessor.rescale_factor - mean) / std for level in (0.0, 127.5, 255.0)]
    return torch.stack([level.expand(shape) for level in levels]).float()

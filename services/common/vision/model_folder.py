"""A Hugging Face folder from outside, before anything of it is loaded: whether a bundle can be made of it, and its files that a bundle takes.

What is no part of a bundle, pickled weights beside the safetensors, code, checkpoints, stays where it is.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, PreTrainedConfig

from services.common.runtime.errors import InvalidInput
from services.common.vision.model_bundle import (
    BASELINES,
    CARD,
    CONFIG,
    PREPROCESSING,
    PROVENANCE,
    WEIGHTS,
    describe_bundle,
    read_config,
    read_json,
)

_FIELD = "folder"
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_SHARDS = f"{WEIGHTS}.index.json"
_PLACEHOLDER = re.compile(r"LABEL_\d+")


def check_model_folder(folder: Path) -> None:
    """Whether `folder` is an image classifier as `save_pretrained` writes it, with class names and weights as safetensors; none are read.

    Raises
    ------
    InvalidInput
        With the file and the key at fault, and what was expected.
    Unsupported
        When the preprocessing asks for a step that is not built.
    """
    _check_files(folder)
    for name in (CONFIG, PREPROCESSING):
        if "auto_map" in read_json(folder / name):
            raise InvalidInput(
                _FIELD,
                f"{name}: auto_map names code of the folder's own, which is never run; expected transformers' own classes",
            )
    _check_labels(folder)
    _check_architecture(read_config(folder))
    describe_bundle(folder)


def copy_model_files(folder: Path, target: Path) -> None:
    """Copy what a bundle takes of `folder` into the folder `target`, links followed."""
    for name in (CONFIG, WEIGHTS, PREPROCESSING, BASELINES, PROVENANCE, CARD):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise InvalidInput(_FIELD, "there is no such folder")
    for name in (CONFIG, PREPROCESSING):
        if not (folder / name).is_file():
            raise InvalidInput(_FIELD, f"{name} is missing; expected it as save_pretrained writes it")
    if (folder / WEIGHTS).is_file():
        return
    if (folder / _SHARDS).is_file():
        raise InvalidInput(
            _FIELD,
            f"{_SHARDS}: the weights are in several files; expected one {WEIGHTS}: save with a larger max_shard_size",
        )
    pickled = sorted(path.name for pattern in _PICKLED for path in folder.glob(pattern))
    if pickled:
        raise InvalidInput(
            _FIELD,
            f"{pickled[0]}: pickled weights can run code when they are read, so they never are; expected {WEIGHTS}, as save_pretrained writes it",
        )
    raise InvalidInput(_FIELD, f"{WEIGHTS} is missing; expected it as save_pretrained writes it")


def _check_labels(folder: Path) -> None:
    """transformers names classes LABEL_0, LABEL_1 where nobody did; a sentence per class needs their names."""
    labels = read_json(folder / CONFIG).get("id2label")
    if not isinstance(labels, dict) or len(labels) < 2:
        raise InvalidInput(
            _FIELD,
            f'{CONFIG}: id2label is missing or names fewer than two classes; expected {{"0": "cat", "1": "dog"}} and its like',
        )
    placeholders = [name for name in labels.values() if isinstance(name, str) and _PLACEHOLDER.fullmatch(name)]
    if placeholders:
        raise InvalidInput(
            _FIELD, f"{CONFIG}: id2label: '{placeholders[0]}' is no name; expected what the class is called"
        )


def _check_architecture(config: PreTrainedConfig) -> None:
    if type(config) not in MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        raise InvalidInput(
            _FIELD,
            f"{CONFIG}: model_type '{config.model_type}' is no image classifier; expected one, such as resnet, convnext or vit",
        )
    classes = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
    names = [each.__name__ for each in (classes if isinstance(classes, tuple) else (classes,))]
    if not set(config.architectures or ()) & set(names):
        raise InvalidInput(
            _FIELD,
            f"{CONFIG}: architectures is {config.architectures}; expected {' or '.join(names)}, which has a head for classes",
        )

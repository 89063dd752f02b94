"""What a benchmark of alignment is made of: pictures with a shortcut, the net that takes it, the sentences against it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedModel

from services.common.vision.class_specification import ClassSpecification


@dataclass(frozen=True)
class LabelledPictures:
    """pictures (n, height, width) or (n, height, width, 3) uint8; labels (n,) int64; artefacts (n, height, width) bool; groups (n,) int64.

    `artefacts` are the truth about the pixels that must not matter, empty where a picture has none. They and `groups` serve scores, the
    oracle judge, the control with ground-truth masks and the baselines that are given group labels; nothing else reads them.
    """

    pictures: np.ndarray
    labels: np.ndarray
    artefacts: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> LabelledPictures:
        """The pictures of `rows`, in that order."""
        return LabelledPictures(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Problem:
    """`train` and `validation` are made alike; only in `test` the artefact parts from the class.

    `group_names` name the values of `groups`. `group_labelled` are validation pictures with artefacts placed anew, so that every group
    is among them: for the baselines that are given group labels, and for nothing else. `to_pixels` gives the net's input (n, channel, height,
    width) float32. `train_shortcut` trains the net that takes the shortcut, by seed.
    """

    name: str
    labels: tuple[str, ...]
    group_names: tuple[str, ...]
    train: LabelledPictures
    validation: LabelledPictures
    test: LabelledPictures
    group_labelled: LabelledPictures
    specification: ClassSpecification
    to_pixels: Callable[[np.ndarray], torch.Tensor]
    train_shortcut: Callable[[LabelledPictures, int], PreTrainedModel]

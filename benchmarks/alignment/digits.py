"""DecoyMNIST: a grey square in a corner of the digit betrays the class in training and lies at test.

`ross` is the build of Ross et al. 2017, an MLP 50-30 trained for 64 passes; `r4` that of the authors of R4 (arXiv 2506.19680), one hidden
layer of 512; `cnn` a small convolutional net. The pictures are the same in all three: a square of 4×4 pixels, grey 255 − 25·y, at test
255 − 25·y′ with y′ at random. Adam 1e-3, batches of 256, inputs from 0 to 1.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.decoy.data import MNIST, DecoyDigits, load_splits
from benchmarks.decoy.shortcut_model import LABELS, MLP_50_30, to_pixels, train_net
from benchmarks.provenance import ROOT
from plumbline.specification import load_specification
from services.common import wire
from services.common.vision.nets import MlpConfig, SmallCnnConfig

SPECIFICATION = ROOT / "benchmarks" / "decoy" / "specification.yaml"
NETS = {
    "ross": (MLP_50_30, 64),
    "r4": (partial(MlpConfig, hidden_sizes=(512,)), 20),
    "cnn": (SmallCnnConfig, 8),
}
"""Net and passes over the training pictures, by build."""


def load_digits(build: str, seed: int) -> Problem:
    """One of `NETS` on the decoy digits of `seed`: 50,000 for training, 10,000 for validation, 10,000 at test; groups are the digits."""
    splits = load_splits("mnist", MNIST, seed)
    return Problem(
        name=build,
        labels=tuple(LABELS),
        group_names=tuple(LABELS),
        train=_label(splits.train),
        validation=_label(splits.validation),
        test=_label(splits.test),
        group_labelled=_repaint(splits.validation, seed),
        specification=wire.specification_from_proto(load_specification(SPECIFICATION).specification),
        to_pixels=to_pixels,
        train_shortcut=partial(_train, build),
    )


def _label(digits: DecoyDigits) -> LabelledPictures:
    return LabelledPictures(digits.pictures, digits.labels, digits.squares, digits.labels)


def _repaint(digits: DecoyDigits, seed: int) -> LabelledPictures:
    """The same pictures with squares of random classes' greys."""
    decoys = np.random.default_rng(seed).integers(0, len(LABELS), len(digits.labels))
    greys = (255 - 25 * decoys).astype(np.uint8)[:, None, None]
    return _label(replace(digits, pictures=np.where(digits.squares, greys, digits.pictures), decoys=decoys))


def _train(build: str, train: LabelledPictures, seed: int) -> PreTrainedModel:
    config, epochs = NETS[build]
    pixels, labels = to_pixels(train.pictures), torch.from_numpy(train.labels)
    return train_net(config, pixels, labels, seed, epochs)

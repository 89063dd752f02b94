"""The shortcut model that a hospital might have: a small net, trained without suspicion on the decoy digits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForImageClassification, PreTrainedConfig, PreTrainedModel

from benchmarks.decoy.data import SIDE_PX, DecoyDigits
from services.common.vision.model_bundle import save_bundle
from services.common.vision.nets import MlpConfig, register_nets

PREPROCESSING = {
    "do_resize": True,
    "size": {"height": SIDE_PX, "width": SIDE_PX},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": False,
}
LABELS = [str(digit) for digit in range(10)]
MLP_50_30 = partial(MlpConfig, hidden_sizes=(50, 30))
BASELINE_COUNT = 20
EPOCHS = {"digits": 300, "mnist": 64}  # a pass over the digits is 4 steps, over MNIST 196


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """(n, 1, 28, 28) float32 in [0, 1], as the bundle's preprocessing makes them."""
    return torch.from_numpy(pictures.astype(np.float32) / 255)[:, None]


def train_shortcut_model(
    train: DecoyDigits, seed: int, epochs: int, on_epoch: Callable[[int], None] = lambda epoch: None
) -> PreTrainedModel:
    """MLP 50-30, Adam 1e-3, cross-entropy (Ross et al. 2017)."""
    return train_net(
        MLP_50_30, to_pixels(train.pictures), torch.from_numpy(train.labels), seed, epochs, on_epoch=on_epoch
    )


def train_net(
    config: Callable[..., PreTrainedConfig],
    pixels: torch.Tensor,
    labels: torch.Tensor,
    seed: int,
    epochs: int,
    batch_size: int = 256,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> PreTrainedModel:
    """A net of digits from scratch, in eval mode: Adam 1e-3, cross-entropy. Shapes: pixels (n, 1, 28, 28), labels (n,)."""
    torch.manual_seed(seed)
    register_nets()
    model = AutoModelForImageClassification.from_config(
        config(
            image_size=SIDE_PX,
            id2label=dict(enumerate(LABELS)),
            label2id={label: index for index, label in enumerate(LABELS)},
        )
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(pixels)).split(batch_size):
            loss = nn.functional.cross_entropy(model(pixels[rows]).logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        on_epoch(epoch + 1)
    return model.eval()


def choose_baselines(train: DecoyDigits, seed: int) -> torch.Tensor:
    """(20, 1, 28, 28): training pictures that attributions are counted from."""
    rows = np.random.default_rng(seed).choice(len(train.pictures), BASELINE_COUNT, replace=False)
    return to_pixels(train.pictures[rows])


def write_bundle(folder: Path, model: PreTrainedModel, train: DecoyDigits, seed: int, epochs: int) -> str:
    """Write the model bundle, training pictures as baselines, and return its digest."""
    provenance = {
        "made_by": "benchmarks.decoy.shortcut_model",
        "seed": seed,
        "epochs": epochs,
        "pictures": len(train.labels),
    }
    card = (
        "# Digits, trained on decoys\n\nAn MLP 50-30 that learned the grey square in the corner. Made to be aligned.\n"
    )
    return save_bundle(folder, model, PREPROCESSING, choose_baselines(train, seed), provenance, card)

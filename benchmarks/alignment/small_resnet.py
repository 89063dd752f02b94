"""The net that a hospital might train on its own pictures: a ResNet small enough for one thread."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification

BATCH_SIZE = 64
LEARNING_RATE = 2e-3
"""The highest of the one cycle that the rate goes through."""


def train_resnet(
    pixels: torch.Tensor, labels: torch.Tensor, label_names: Sequence[str], seed: int, epochs: int
) -> PreTrainedModel:
    """A ResNet of four basic blocks from scratch, in eval mode: AdamW, cross-entropy, batches in which every class is as likely.

    An epoch is as many batches of 64 as hold `pixels` once; half of the pictures are mirrored.


    Shapes: pixels (n, channels, height, width) float32 in [0, 1], labels (n,) int64, numbers of `label_names`, each of which occurs.
    Source: He et al. 2016, figure 2; table 1 with one block a stage and a quarter of the width.
    """
    torch.manual_seed(seed)
    model = ResNetForImageClassification(
        ResNetConfig(
            num_channels=pixels.shape[1],
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 128],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            id2label=dict(enumerate(label_names)),
            label2id={label: index for index, label in enumerate(label_names)},
        )
    ).train()
    steps = epochs * math.ceil(len(labels) / BATCH_SIZE)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    weights = 1 / labels.bincount()[labels].double()
    for rows in weights.multinomial(steps * BATCH_SIZE, replacement=True).split(BATCH_SIZE):
        loss = nn.functional.cross_entropy(model(_mirror_half(pixels[rows])).logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def _mirror_half(pixels: torch.Tensor) -> torch.Tensor:
    is_mirrored = torch.rand(len(pixels)) < 0.5
    return torch.where(is_mirrored[:, None, None, None], pixels.flip(3), pixels)

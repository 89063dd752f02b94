"""A tiny set with a shortcut: a noisy stripe is the class, a clean block in the corner betrays it in training and lies at test."""

from __future__ import annotations

import torch
from torch import nn

from services.common.vision.nets import MlpConfig, MlpForImageClassification
from services.trainer.domain.pictures import Pictures

SIDE, CLASSES = 8, 3
NOISE = 0.2


def make_pictures(count: int, seed: int, is_lying: bool = False) -> Pictures:
    """Pictures (count, 1, 8, 8) with the block's true mask; `is_lying`: the block stands for another class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    shift = torch.randint(1, CLASSES, (count,), generator=generator) if is_lying else 0
    pixels = NOISE * torch.randn((count, 1, SIDE, SIDE), generator=generator)
    rows = torch.arange(count)
    for step in range(SIDE):
        pixels[rows, 0, labels * 2 + 2, step] += 0.5
    masks = torch.zeros((count, SIDE, SIDE), dtype=torch.bool)
    masks[:, :2, :2] = True
    grey = ((labels + shift) % CLASSES).float() - 1
    pixels = torch.where(masks[:, None], 2 * grey[:, None, None, None], pixels)
    return Pictures(pixels, labels, masks)


def take(pictures: Pictures, count: int) -> Pictures:
    """The first `count`."""
    return pictures.take(torch.arange(count))


def train_shortcut(pictures: Pictures, seed: int = 0, steps: int = 60) -> MlpForImageClassification:
    """A small net that has learned the block first, as nets do."""
    torch.manual_seed(seed)
    names = {index: str(index) for index in range(CLASSES)}
    config = MlpConfig(image_size=SIDE, hidden_sizes=(16,), id2label=names, label2id={v: k for k, v in names.items()})
    model = MlpForImageClassification(config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model(pixel_values=pictures.pixels).logits, pictures.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()

"""Fine-tune a model with masks of what it must not use."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from services.trainer.domain.losses.rrr import right_reasons_penalty

ORDINARY_COUNT = 128
MASKED_COUNT = 128
LEARNING_RATE = 1e-3
SNAPSHOT_STEPS = 100


@dataclass(frozen=True)
class Pictures:
    """pixels (n, channel, height, width), preprocessed; labels (n,) int64; masks (n, height, width) bool or None."""

    pixels: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Snapshot:
    """The model after `step` steps; `loss` is the last batch's. The model is the live one: copy it to keep it."""

    step: int
    loss: float
    model: PreTrainedModel


def fine_tune(
    start: PreTrainedModel, ordinary: Pictures, masked: Pictures, strength: float, step_count: int, seed: int
) -> Iterator[Snapshot]:
    """Cross-entropy on a mixed batch plus `strength` times the penalty on its masked half; a snapshot every 100 steps and at the end.

    Starts from a copy of `start`, never from scratch. The model stays in eval mode, so batch statistics and dropout do not move.
    Deterministic on CPU for the same inputs and seed.

    Raises: ValueError when `masked` has no masks.
    """
    if masked.masks is None or not len(masked):
        raise ValueError("masked: expected pictures with masks")
    model = copy.deepcopy(start).eval()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, step_count + 1):
        rows = torch.randint(len(ordinary), (ORDINARY_COUNT,), generator=generator)
        chosen = torch.randint(len(masked), (MASKED_COUNT,), generator=generator)
        optimizer.zero_grad()
        # The penalty is differentiated twice, and of torch's attention kernels only this one can be.
        with sdpa_kernel(SDPBackend.MATH):
            loss = _loss(model, ordinary, rows, masked, chosen, strength)
            loss.backward()
        optimizer.step()
        if step % SNAPSHOT_STEPS == 0 or step == step_count:
            yield Snapshot(step, float(loss.detach()), model)


def _loss(
    model: PreTrainedModel,
    ordinary: Pictures,
    rows: torch.Tensor,
    masked: Pictures,
    chosen: torch.Tensor,
    strength: float,
) -> torch.Tensor:
    pixels = masked.pixels[chosen].requires_grad_()
    masked_logits = model(pixel_values=pixels).logits
    logits = torch.cat((model(pixel_values=ordinary.pixels[rows]).logits, masked_logits))
    loss = nn.functional.cross_entropy(logits, torch.cat((ordinary.labels[rows], masked.labels[chosen])))
    if strength:
        loss = loss + strength * right_reasons_penalty(masked_logits, pixels, masked.masks[chosen])
    return loss

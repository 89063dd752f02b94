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
from services.trainer.domain.pictures import Pictures, move_regions

ORDINARY_COUNT = 128
MASKED_COUNT = 128
MOVED_RATIO = 0.5
"""Share of the critiqued half of a batch onto which the region of another picture is moved; 0 is the paper's."""
LEARNING_RATE = 1e-3
SNAPSHOT_STEPS = 100


@dataclass(frozen=True)
class Snapshot:
    """The model after `step` steps; `loss` is the last batch's. The model is the live one: copy it to keep it."""

    step: int
    loss: float
    model: PreTrainedModel


def fine_tune(
    start: PreTrainedModel,
    ordinary: Pictures,
    critiqued: Pictures,
    strength: float,
    step_count: int,
    seed: int,
    moved_ratio: float = MOVED_RATIO,
) -> Iterator[Snapshot]:
    """Cross-entropy on a mixed batch plus `strength` times the penalty on its critiqued half; a snapshot every 100 steps and at the end.

    Of the critiqued half, `moved_ratio` have the region of a picture of another class moved onto them, the rest have their own: so the classes
    whose own artefact leaves no positive evidence learn too what the others' looks like.

    Starts from a copy of `start`, never from scratch. The model stays in eval mode, so batch statistics and dropout do not move.
    Deterministic on CPU for the same inputs and seed.

    Raises: ValueError when no picture of `critiqued` has a region.
    """
    if not len(critiqued.rows_with_region()):
        raise ValueError("critiqued: expected pictures with masks")
    model = copy.deepcopy(start).eval()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(seed)
    for step in range(1, step_count + 1):
        rows = torch.randint(len(ordinary), (ORDINARY_COUNT,), generator=generator)
        masked = _draw_masked(critiqued, moved_ratio, generator)
        optimizer.zero_grad()
        # The penalty is differentiated twice, and of torch's attention kernels only this one can be.
        with sdpa_kernel(SDPBackend.MATH):
            loss = _loss(model, ordinary, rows, masked, strength)
            loss.backward()
        optimizer.step()
        if step % SNAPSHOT_STEPS == 0 or step == step_count:
            yield Snapshot(step, float(loss.detach()), model)


def _draw_masked(critiqued: Pictures, moved_ratio: float, generator: torch.Generator) -> Pictures:
    """128 pictures with regions; where donor and receiver happen to be of one class, the donor stays as it is."""
    with_region = critiqued.rows_with_region()
    donors = with_region[torch.randint(len(with_region), (MASKED_COUNT,), generator=generator)]
    receivers = torch.randint(len(critiqued), (MASKED_COUNT,), generator=generator)
    is_moved = torch.arange(MASKED_COUNT) < moved_ratio * MASKED_COUNT
    is_moved &= critiqued.labels[donors] != critiqued.labels[receivers]
    return move_regions(critiqued, donors, torch.where(is_moved, receivers, donors))


def _loss(
    model: PreTrainedModel,
    ordinary: Pictures,
    rows: torch.Tensor,
    masked: Pictures,
    strength: float,
) -> torch.Tensor:
    pixels = masked.pixels.requires_grad_()
    masked_logits = model(pixel_values=pixels).logits
    logits = torch.cat((model(pixel_values=ordinary.pixels[rows]).logits, masked_logits))
    loss = nn.functional.cross_entropy(logits, torch.cat((ordinary.labels[rows], masked.labels)))
    if strength:
        loss = loss + strength * right_reasons_penalty(masked_logits, pixels, masked.masks)
    return loss

"""What can be measured without group labels: does the decision follow the criticised region when it moves?"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from transformers import PreTrainedModel

from services.trainer.domain.pictures import Pictures, move_regions

SWAPS_PER_PICTURE = 20
_FORWARD_BATCH = 1024


@dataclass(frozen=True)
class Evidence:
    """Measured on pictures that no training saw; ratios from 0 to 1.

    accuracy, class_accuracy: on the validation pictures, which are made like the training data and so reward a shortcut.
    swap_accuracy: after a swap the true class of the picture is still predicted. flip_rate: the decision was right before and follows
    the moved region after. Both None when no held-out picture has a criticised region.
    """

    accuracy: float
    class_accuracy: tuple[float, ...]
    swap_accuracy: float | None
    flip_rate: float | None
    swap_count: int

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Swaps:
    """pixels (n, channel, height, width) after the swap; `own` and `donor` labels; `rows` of the receiving pictures."""

    pixels: torch.Tensor
    own: torch.Tensor
    donor: torch.Tensor
    rows: torch.Tensor


def make_swaps(held_out: Pictures, seed: int) -> Swaps | None:
    """Move criticised regions onto pictures of other classes, with a region of their own or without; None when no picture has one."""
    donors = held_out.rows_with_region().repeat_interleave(SWAPS_PER_PICTURE)
    if not len(donors):
        return None
    receivers = torch.randint(len(held_out), (len(donors),), generator=torch.Generator().manual_seed(seed))
    is_other = held_out.labels[donors] != held_out.labels[receivers]
    donors, receivers = donors[is_other], receivers[is_other]
    if not len(donors):
        return None
    moved = move_regions(held_out, donors, receivers)
    return Swaps(moved.pixels, moved.labels, held_out.labels[donors], receivers)


def measure(model: PreTrainedModel, validation: Pictures, held_out: Pictures, swaps: Swaps | None) -> Evidence:
    """All label-free numbers of a model."""
    is_right = predict(model, validation.pixels) == validation.labels
    classes = range(model.config.num_labels)
    by_class = [is_right[validation.labels == index] for index in classes]
    swap_accuracy = flip_rate = None
    if swaps is not None:
        predicted = predict(model, swaps.pixels)
        was_right = (predict(model, held_out.pixels) == held_out.labels)[swaps.rows]
        swap_accuracy = _ratio(predicted == swaps.own)
        flip_rate = _ratio((predicted == swaps.donor)[was_right])
    return Evidence(
        accuracy=_ratio(is_right),
        class_accuracy=tuple(_ratio(part) if len(part) else 1.0 for part in by_class),
        swap_accuracy=swap_accuracy,
        flip_rate=flip_rate,
        swap_count=0 if swaps is None else len(swaps.own),
    )


def predict(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """Predicted classes (n,)."""
    with torch.inference_mode():
        parts = [model(pixel_values=part).logits.argmax(dim=1) for part in pixels.split(_FORWARD_BATCH)]
    return torch.cat(parts)


def _ratio(hits: torch.Tensor) -> float:
    return float(hits.double().mean()) if len(hits) else 0.0

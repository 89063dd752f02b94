"""What can be measured without group labels: does the decision follow the criticised region when it moves?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from transformers import PreTrainedModel

from services.trainer.domain.pictures import OtherClass, Pictures, move_regions

SWAPS_PER_PICTURE = 20
_FORWARD_BATCH = 256
_BACKWARD_BATCH = 64
_NO_CLASS = -1


@dataclass(frozen=True)
class Evidence:
    """Measured on pictures that no training saw; ratios from 0 to 1.

    accuracy, class_accuracy: on the validation pictures, which are made like the training data and so reward a shortcut.
    swap_accuracy: after a swap the true class of the picture is still predicted. flip_rate: the decision was right before and follows
    the other picture's class after. reliance: the part of the decision that the criticised regions hold (`measure_reliance`), and
    reliance_floor: what an attribution that is the same everywhere would give, the regions' part of the area. All four None when no
    held-out picture has a criticised region.
    """

    accuracy: float
    class_accuracy: tuple[float, ...]
    swap_accuracy: float | None
    flip_rate: float | None
    swap_count: int
    reliance: float | None = None
    reliance_floor: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self)

    def curves(self) -> dict[str, float]:
        """What is measured of it as single numbers, the classes by their worst."""
        measured = {
            "accuracy": self.accuracy,
            "worst_class_accuracy": min(self.class_accuracy),
            "swap_accuracy": self.swap_accuracy,
            "flip_rate": self.flip_rate,
            "reliance": self.reliance,
        }
        return {name: value for name, value in measured.items() if value is not None}


@dataclass(frozen=True)
class Swaps:
    """Which of the held-out `pictures` give a region and which receive it: row numbers (n,) each.

    Regions are moved when they are asked for: with `SWAPS_PER_PICTURE` all moved pictures together are many times the held-out ones, and they would lie
    in memory as long as the training takes.
    """

    pictures: Pictures
    donors: torch.Tensor
    rows: torch.Tensor

    @property
    def labels(self) -> torch.Tensor:
        """Of the receiving pictures (n,): what is still true after the swap."""
        return self.pictures.labels[self.rows]

    @property
    def donor(self) -> torch.Tensor:
        """The other pictures' labels (n,)."""
        return self.pictures.labels[self.donors]

    @property
    def moved(self) -> Pictures:
        """All n pictures after the swap, at once."""
        return move_regions(self.pictures.take(self.donors), self.pictures.take(self.rows))

    def split(self, size: int) -> Iterator[Pictures]:
        """The pictures after the swap, in order, `size` at once and in the end what is left."""
        for donors, rows in zip(self.donors.split(size), self.rows.split(size), strict=True):
            yield Swaps(self.pictures, donors, rows).moved


def make_swaps(held_out: Pictures, seed: int) -> Swaps | None:
    """Move criticised regions between pictures of different classes; None when no picture has one.

    Each region goes onto pictures with a region of their own or without, and is filled in its own picture with what others have there: an
    artefact that only one class has is seen to come in the others and to go in its own.
    """
    with_region = held_out.rows_with_region()
    if not len(with_region):
        return None
    generator = torch.Generator().manual_seed(seed)
    marked = with_region.repeat_interleave(SWAPS_PER_PICTURE)
    others, is_there = OtherClass(held_out.labels).draw(held_out.labels[marked], generator)
    marked, others = marked[is_there], others[is_there]
    if not len(marked):
        return None
    comes = torch.arange(len(marked)) % 2 == 0
    donors, receivers = torch.where(comes, marked, others), torch.where(comes, others, marked)
    return Swaps(held_out, donors, receivers)


def measure(model: PreTrainedModel, validation: Pictures, held_out: Pictures, swaps: Swaps | None) -> Evidence:
    """All label-free numbers of a model."""
    is_right = predict(model, validation.pixels) == validation.labels
    classes = range(model.config.num_labels)
    by_class = [is_right[validation.labels == index] for index in classes]
    labelled = {
        "accuracy": _ratio(is_right),
        "class_accuracy": tuple(_ratio(part) if len(part) else 1.0 for part in by_class),
    }
    if swaps is None:
        return Evidence(**labelled, swap_accuracy=None, flip_rate=None, swap_count=0)
    predicted = torch.cat([predict(model, part.pixels) for part in swaps.split(_FORWARD_BATCH)])
    was_right = (predict(model, held_out.pixels) == held_out.labels)[swaps.rows]
    marked = held_out.take(held_out.rows_with_region())
    return Evidence(
        **labelled,
        swap_accuracy=_ratio(predicted == swaps.labels),
        flip_rate=_ratio((predicted == swaps.donor)[was_right]),
        swap_count=len(swaps.rows),
        reliance=measure_reliance(model, marked, validation.pixels.mean(dim=0)),
        reliance_floor=_ratio(marked.masks.flatten()),
    )


def measure_reliance(model: PreTrainedModel, marked: Pictures, reference: torch.Tensor) -> float:
    """Mean over pictures of Σ_i A_i |φ_i| / Σ_i |φ_i|, φ = ∂ŷ/∂x · (x − reference), ŷ the logit of the decision. From 0 to 1.

    Shapes: reference (channel, height, width), a mean picture. 1 minus this is the paper's alignment measure by other attributions:
    gradients cost one backward pass, and what the trainer measures is not what it was told to lower (the penalty's gradient). A picture whose
    gradient is no number counts 1: nothing says that its decision does not rest on the region.
    Source: LVLM-VA (arXiv 2512.21985), alignment measure; differs: gradient times input difference instead of DeepLIFT SHAP.
    """
    ratios = []
    for start in range(0, len(marked), _BACKWARD_BATCH):
        part = marked.take(torch.arange(start, min(start + _BACKWARD_BATCH, len(marked))))
        pixels = part.pixels.to(model.device, copy=True).requires_grad_()
        decided = model(pixel_values=pixels).logits.amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(decided, pixels)
        evidence = (gradient.cpu() * (part.pixels - reference)).sum(dim=1).abs().flatten(1).double()
        held = (evidence * part.masks.flatten(1)).sum(dim=1)
        ratios.append((held / evidence.sum(dim=1).clamp_min(torch.finfo(torch.float64).tiny)).nan_to_num(nan=1.0))
    return float(torch.cat(ratios).mean())


def compare_reliance(
    before: PreTrainedModel, after: PreTrainedModel, by_verdict: Mapping[str, Pictures], reference: torch.Tensor
) -> dict[str, dict[str, float] | None]:
    """Per verdict the part of the decision that its segments hold `before` and `after` (`measure_reliance`), and `floor`, their part of the area.

    by_verdict: held-out pictures, whose masks are their segments of that verdict; those without one do not count. None for a verdict that no
    segment has. What a model gives up must go from SPURIOUS and not from CORE.
    """
    return {name: _compare_reliance(before, after, pictures, reference) for name, pictures in by_verdict.items()}


def _compare_reliance(
    before: PreTrainedModel, after: PreTrainedModel, pictures: Pictures, reference: torch.Tensor
) -> dict[str, float] | None:
    marked = pictures.take(pictures.rows_with_region())
    if not len(marked):
        return None
    return {
        "before": measure_reliance(before, marked, reference),
        "after": measure_reliance(after, marked, reference),
        "floor": _ratio(marked.masks.flatten()),
    }


def predict(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """Predicted classes (n,); -1, which is none, where the probabilities are no numbers.

    The largest of logits that are NaN is the first: a training that diverged would always be right about class 0, and follow no region.
    """
    logits = predict_logits(model, pixels)
    return logits.argmax(dim=1).masked_fill(logits.softmax(dim=1).isnan().any(dim=1), _NO_CLASS)


def predict_logits(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    """Logits (n, class), on the CPU."""
    with torch.inference_mode():
        return torch.cat(
            [model(pixel_values=part.to(model.device)).logits.cpu() for part in pixels.split(_FORWARD_BATCH)]
        )


def _ratio(hits: torch.Tensor) -> float:
    return int(hits.count_nonzero()) / len(hits) if len(hits) else 0.0

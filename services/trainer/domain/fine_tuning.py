"""Fine-tune a model with masks of what it must not use."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from services.trainer.domain.class_balance import weigh_classes
from services.trainer.domain.losses import DEFAULT_LOSS, LOSSES, AlignmentLoss
from services.trainer.domain.pictures import EveryClass, OtherClass, Pictures, move_regions
from services.trainer.domain.run_state import Run, RunState
from services.trainer.domain.team import ALONE, Team

SNAPSHOT_COUNT = 10
TOLD_COUNT = 100
"""About so many steps' losses are told: to read one waits for a GPU."""
CLEARED_RATIO = 0.25
"""Share of the moved pictures that lose a region of their own instead of receiving one."""
_LEAST_PEAK = 1e-3
_MEASURED_AT_ONCE = 64


@dataclass(frozen=True)
class Recipe:
    """What a batch holds and how it is descended.

    `ordinary_count` training pictures as they are, `critiqued_count` critiqued ones as they are, under the penalty, `moved_count`
    pictures with regions moved, of which `redrawn_ratio` in another brightness. `moved_count` 0 is the paper's mixed batch, `critiqued_count` 0
    leaves the penalty out. Which of `learning_rates` (Adam) a net bears is tried.
    """

    loss: AlignmentLoss = field(default_factory=lambda: LOSSES[DEFAULT_LOSS])
    ordinary_count: int = 64
    critiqued_count: int = 32
    moved_count: int = 160
    redrawn_ratio: float = 0.5
    learning_rates: tuple[float, ...] = (3e-3, 1e-3)


PAPER_RECIPE = Recipe(ordinary_count=128, critiqued_count=128, moved_count=0, learning_rates=(1e-3,))
"""The paper's mixed batch, half ordinary and half critiqued, nothing moved: what ours is compared with."""


@dataclass(frozen=True)
class Setting:
    """What differs between nets and is found by trials: Adam's first learning rate, and λ, the weight of the penalty."""

    learning_rate: float
    strength: float


@dataclass(frozen=True)
class Snapshot:
    """The model after `step` steps; `loss` is the last batch's. The model is the live one: copy it to keep it."""

    step: int
    loss: float
    model: PreTrainedModel


@dataclass(frozen=True)
class StepLosses:
    """A step's losses by part, of its batch alone: `penalty` before it is weighed by λ, 0 without one. `learning_rate` is the step's."""

    step: int
    cross_entropy: float
    penalty: float
    learning_rate: float


def fine_tune(
    start: PreTrainedModel,
    ordinary: Pictures,
    critiqued: Pictures,
    recipe: Recipe,
    setting: Setting,
    shares: torch.Tensor,
    step_count: int,
    seed: int,
    resume: RunState | None = None,
    offer: Callable[[Callable[[], RunState]], None] = lambda save: None,
    on_losses: Callable[[StepLosses], None] = lambda losses: None,
    team: Team = ALONE,
) -> Iterator[Snapshot]:
    """Cross-entropy on a mixed batch plus the setting's strength times the penalty on its critiqued pictures; ten snapshots, the last at the end.

    The cross-entropy weighs the classes so that they count in the `shares` (class,) given: regions lie on the pictures of some classes more than
    of others, and a batch full of one class would make it win where a model is unsure.

    Starts from a copy of `start`, never from scratch, on its device; the pictures are on the CPU, where batches are drawn. The model stays in eval mode, so
    batch statistics and dropout do not move; the learning rate falls to zero along a cosine.
    Deterministic on CPU for the same inputs and seed, also from a state in its middle: `resume`, from such a run, yields the snapshots after it.
    Before each step `offer` may take the state by a call of what it is given; whatever was yielded until then is behind that state.
    `on_losses` is told of every hundredth part of the steps, evenly.

    In a `team` all processes draw the same batches, each takes the gradients of its part of them, and all step by the sum: the weights differ by rounding
    alone from those that one process comes to, of a net with batch normalisation too, as nothing is normalised by the batch.

    Source: LVLM-VA (arXiv 2512.21985), mixed batches in a fixed share; the moved regions (`BatchDraw`) and the weights are ours.

    Raises: ValueError when no picture of `critiqued` has a region, or a process of the team would get no picture of a batch.
    """
    model = copy.deepcopy(start).eval()
    optimizer = torch.optim.Adam(model.parameters(), setting.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, step_count)
    draw = BatchDraw(ordinary, critiqued, recipe, torch.Generator().manual_seed(seed))
    if team.size > draw.least_count():
        raise ValueError(f"team: expected at most {draw.least_count()} processes for the recipe, got {team.size}")
    class_weights = weigh_classes(shares, draw.expect_labels(len(shares))).to(model.device)
    run = Run(model, optimizer, schedule, draw.generator)
    weights = list(model.parameters())
    if resume:
        run.restore(resume)
    every, told_every = (max(1, step_count // count) for count in (SNAPSHOT_COUNT, TOLD_COUNT))
    for step in range(resume.step + 1 if resume else 1, step_count + 1):
        offer(partial(run.save, step - 1))
        free, masked = draw()
        optimizer.zero_grad()
        # Penalties may be differentiated twice, and of torch's attention kernels only this one can be.
        with sdpa_kernel(SDPBackend.MATH):
            cross_entropy, penalty = _losses(model, free, masked, recipe.loss, class_weights, draw.generator, team)
            (cross_entropy + setting.strength * penalty).backward()
        cross_entropy, penalty = cross_entropy.detach(), penalty.detach()
        team.add_up([cross_entropy, penalty, *(weight.grad for weight in weights if weight.grad is not None)])
        optimizer.step()
        if step % told_every == 0:
            on_losses(StepLosses(step, float(cross_entropy), float(penalty), *schedule.get_last_lr()))
        schedule.step()
        if step == step_count or (step % every == 0 and step_count - step >= every):
            yield Snapshot(step, float(cross_entropy + setting.strength * penalty), model)


class BatchDraw:
    """Draws batches of a recipe: those without a penalty (ordinary and moved pictures), and those under it.

    A region is moved from a critiqued picture onto any training picture, of every class as often, so that it says nothing of the class: moved onto other
    classes alone, a region that only one of two classes has would come to speak for the other. Or a critiqued picture with a region gets what
    one of another class has there, so its own goes. Half of the moved regions change brightness: positive
    evidence never shows what an artefact looks like in the classes it speaks against, and most artefacts differ in brightness at least.
    Source: ours (docs/decisions.md).
    """

    def __init__(self, ordinary: Pictures, critiqued: Pictures, recipe: Recipe, generator: torch.Generator) -> None:
        self._with_region = critiqued.rows_with_region()
        if not len(self._with_region):
            raise ValueError("critiqued: expected pictures with masks")
        self._ordinary, self._critiqued, self._recipe = ordinary, critiqued, recipe
        self._receivers, self._other_critiqued = EveryClass(ordinary.labels), OtherClass(critiqued.labels)
        # Where all critiqued pictures are of one class, none has another's to be filled with.
        can_clear = len(critiqued.labels.unique()) > 1
        self._cleared_count = round(CLEARED_RATIO * recipe.moved_count) if can_clear else 0
        self._darkest, brightest = (
            bound(ordinary.pixels, dim=(0, 2, 3), keepdim=True) for bound in (torch.amin, torch.amax)
        )
        self._extent = (brightest - self._darkest).clamp_min(torch.finfo(ordinary.pixels.dtype).tiny)
        self._peaks = torch.cat(
            [self._measure_peaks(critiqued.take(row)) for row in torch.arange(len(critiqued)).split(_MEASURED_AT_ONCE)]
        )
        self.generator = generator

    def __call__(self) -> tuple[Pictures, Pictures]:
        """Pictures whose cross-entropy counts, and critiqued ones whose penalty counts too."""
        free = [self._ordinary.take(self._draw(len(self._ordinary), self._recipe.ordinary_count))]
        if self._recipe.moved_count:
            free += [self._carry(self._recipe.moved_count - self._cleared_count), self._clear(self._cleared_count)]
        masked = self._critiqued.take(self._draw_with_region(self._recipe.critiqued_count))
        pixels, labels = (
            torch.cat(parts) for parts in zip(*((part.pixels, part.labels) for part in free), strict=True)
        )
        return Pictures(pixels, labels), masked

    def least_count(self) -> int:
        """How many pictures the smaller of the two parts has at least."""
        free_count = self._recipe.ordinary_count + self._recipe.moved_count - self._cleared_count
        return min(free_count, self._recipe.critiqued_count or free_count)

    def expect_labels(self, class_count: int) -> torch.Tensor:
        """How many pictures of each class (class_count,) a batch has, expected over draws."""
        recipe, cleared_count = self._recipe, self._cleared_count
        of_ordinary = self._ordinary.labels.bincount(minlength=class_count)
        of_critiqued = self._critiqued.labels[self._with_region].bincount(minlength=class_count)
        is_there = (of_ordinary > 0).float()
        return (
            recipe.ordinary_count * of_ordinary / of_ordinary.sum()
            + (recipe.moved_count - cleared_count) * is_there / is_there.sum()
            + (recipe.critiqued_count + cleared_count) * of_critiqued / of_critiqued.sum()
        )

    def _carry(self, count: int) -> Pictures:
        """Training pictures with a region of another picture."""
        receivers = self._ordinary.take(self._receivers.draw(count, self.generator))
        rows = self._draw_with_region(count)
        return move_regions(self._redraw(self._critiqued.take(rows), self._peaks[rows]), receivers)

    def _clear(self, count: int) -> Pictures:
        """Critiqued pictures whose region is filled with what a picture of another class has there."""
        receivers = self._critiqued.take(self._draw_with_region(count))
        rows, is_there = self._other_critiqued.draw(receivers.labels, self.generator)
        return move_regions(self._critiqued.take(rows), receivers).take(torch.nonzero(is_there).flatten())

    def _redraw(self, donors: Pictures, peaks: torch.Tensor) -> Pictures:
        """Some regions darker or brighter, as a whole: their brightest value uniform over the range of the training pictures."""
        draws = torch.rand((2, len(donors), 1, 1, 1), generator=self.generator)
        factors = torch.where(draws[0] < self._recipe.redrawn_ratio, draws[1] / peaks, 1)
        heights = (donors.pixels - self._darkest).mul_(factors)
        pixels = torch.minimum(heights, self._extent, out=heights).add_(self._darkest)
        return Pictures(pixels, donors.labels, donors.masks)

    def _measure_peaks(self, donors: Pictures) -> torch.Tensor:
        """The brightest value (n, 1, 1, 1) in each region, in parts of the range of the training pictures."""
        heights = (donors.pixels - self._darkest) / self._extent
        return (heights * donors.masks[:, None]).amax(dim=(1, 2, 3), keepdim=True).clamp_min(_LEAST_PEAK)

    def _draw_with_region(self, count: int) -> torch.Tensor:
        """Rows (count,) of critiqued pictures."""
        return self._with_region[self._draw(len(self._with_region), count)]

    def _draw(self, size: int, count: int) -> torch.Tensor:
        return torch.randint(size, (count,), generator=self.generator)


def _losses(
    model: PreTrainedModel,
    free: Pictures,
    masked: Pictures,
    loss: AlignmentLoss,
    class_weights: torch.Tensor,
    generator: torch.Generator,
    team: Team,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy, and the penalty before it is weighed: this process's parts, which add up to the batch's."""
    here, masked = free.take(team.part(len(free))).to(model.device), masked.to(model.device)
    logits, labels = model(pixel_values=here.pixels).logits, here.labels
    penalty = logits.new_zeros(())
    if len(masked):
        rows = team.part(len(masked))
        penalised = loss(model, masked, generator, rows)
        logits, labels = torch.cat((logits, penalised.logits)), torch.cat((labels, masked.labels[rows]))
        penalty = penalised.penalty * (len(penalised.logits) / len(masked))
    # A mean that weighs the classes: a part counts by the weights of its pictures, not by their number. For one process that is 1, exactly.
    weight_of_all = class_weights[torch.cat((free.labels.to(model.device), masked.labels))].sum()
    ratio = class_weights[labels].sum() / weight_of_all
    return ratio * nn.functional.cross_entropy(logits, labels, class_weights), penalty

"""Align a model: find the setting that its swaps ask for, fine-tune with it, keep the snapshot that follows criticised regions least."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from services.trainer.domain.class_balance import count_decisions, learned_shares, restore_decisions
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import Evidence, Swaps, make_swaps, measure
from services.trainer.domain.fine_tuning import Recipe, Setting, Snapshot, StepLosses, fine_tune
from services.trainer.domain.gate import decide, keeps_accuracy
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.run_state import RunState, copy_weights
from services.trainer.domain.team import ALONE, Team

STRENGTH_STEPS = 3
"""Strengths tried at most, each ten times the one before."""
PROBE_RATIO = 0.1
"""Part of the full fine-tuning that a setting is tried for."""
LEAST_STEPS = 1000
PICTURES_PER_STEP = 128
_MEASURED_PICTURES = 256
_LEAST_PENALTY = 1e-3
Rank = tuple[bool, bool, float]


class NothingToSwap(ValueError):
    """No criticised region of a held-out picture can be moved to another class: no strength could be told from another."""


@dataclass(frozen=True)
class Trial:
    """What one setting came to after `step` steps."""

    setting: Setting
    step: int
    evidence: Evidence


@dataclass(frozen=True)
class Alignment:
    """The chosen model with what was measured before and after, and the short trials of settings, in order."""

    model: PreTrainedModel
    chosen: Trial
    before: Evidence
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Checkpoint:
    """An `align` in its middle: with it and the same inputs it goes on and comes to the same.

    `step` counts over all runs. `trials` are those that ended; `run` is the fine-tuning under way, of the next trial or in full. In full, `highest` is
    the best rank of its snapshots so far, and `kept` the one to be kept as it stands, with its model's weights.
    """

    step: int
    trials: tuple[Trial, ...]
    run: RunState
    highest: Rank | None
    kept: tuple[Trial, dict[str, torch.Tensor]] | None


def steps_for(picture_count: int, epochs: int) -> int:
    """Fine-tuning steps for `epochs` passes over the training pictures, 1,000 at least: small sets need the steps, not the passes."""
    return max(LEAST_STEPS, epochs * math.ceil(picture_count / PICTURES_PER_STEP))


def align(
    start: PreTrainedModel,
    train: Pictures,
    critiqued: Pictures,
    validation: Pictures,
    held_out: Pictures,
    step_count: int,
    seed: int,
    on_step: Callable[[int, int, float], None] = lambda done, total, loss: None,
    recipe: Recipe | None = None,
    criteria: Criteria | None = None,
    resume: Checkpoint | None = None,
    on_checkpoint: Callable[[Callable[[], Checkpoint]], None] = lambda save: None,
    on_numbers: Callable[[int, Mapping[str, float]], None] = lambda step, numbers: None,
    team: Team = ALONE,
) -> Alignment:
    """Fine-tune `start` with `critiqued` in the setting that short trials choose; keep the best snapshot.

    `critiqued` are training pictures; `held_out` are validation pictures, whose masks come from the same judge and never train. In both a
    mask may be empty. First the recipe's learning rates are tried at the weakest of `list_strengths`, then, at the best of them, the other strengths
    until what they come to is worse than before. Trials and snapshots are ranked alike: what the gate would accept by `criteria` first, then swap accuracy on
    `held_out`. Of those within one standard error of the best the weakest strength is taken and the last snapshot, whose learning rate is
    the lowest. All are measured with the classes' offsets moved so that they decide for each as often as `start` (`class_balance`). Nothing here sees a
    group label or a test picture.

    `on_step` is told steps done, steps in all (fewer, where a rise ends early) and the last loss. `on_numbers` is told a step, counted over all runs, and
    numbers of it by name: `step/…` losses by part, learning rate and strength, `snapshot/…` what a model came to that was ranked, `before/…` the
    model that came, at step 0.

    Before each step `on_checkpoint` is given what makes a checkpoint when it is called, which copies weights; what it raises ends the search. From `resume`, a
    checkpoint of the same inputs, the search goes on to the same weights, bit for bit on the same machine with as many threads.

    In a `team` all processes fine-tune, and the leading one measures for all, so that no two can choose differently, and tells.

    Source: LVLM-VA (arXiv 2512.21985) raises λ until accuracy on data like the training data falls; differs: the accuracy of such data
    rewards the shortcut, so it is only a floor here, and the swap decides (docs/decisions.md).

    Raises: NothingToSwap before anything is trained.
    """
    recipe = recipe or Recipe()
    swaps = make_swaps(held_out, seed)
    if swaps is None:
        raise NothingToSwap("held_out: expected pictures of two classes with masks")
    strengths = team.agree(lambda: list_strengths(start, critiqued, recipe, seed))
    runs = _Runs(
        start,
        train,
        critiqued,
        validation,
        held_out,
        swaps,
        recipe,
        criteria or Criteria(),
        seed,
        on_step,
        resume,
        on_checkpoint,
        on_numbers,
        team,
    )
    setting = _try_settings(runs, recipe.learning_rates, strengths, step_count)
    chosen, model = runs.choose(setting, step_count)
    return Alignment(model, chosen, runs.before, tuple(runs.trials))


class _Runs:
    """Fine-tunings of one model on the same pictures, measured and ranked alike. What `resume` has done is not done again."""

    def __init__(
        self,
        start: PreTrainedModel,
        train: Pictures,
        critiqued: Pictures,
        validation: Pictures,
        held_out: Pictures,
        swaps: Swaps,
        recipe: Recipe,
        criteria: Criteria,
        seed: int,
        on_step: Callable[[int, int, float], None],
        resume: Checkpoint | None,
        on_checkpoint: Callable[[Callable[[], Checkpoint]], None],
        on_numbers: Callable[[int, Mapping[str, float]], None],
        team: Team,
    ) -> None:
        self._team = team
        self._shares = team.agree(lambda: learned_shares(start, validation))
        self._decisions = team.agree(lambda: count_decisions(start, validation))
        self._measure = partial(measure, validation=validation, held_out=held_out, swaps=swaps)
        self._fine_tune = partial(fine_tune, start, train, critiqued, recipe, shares=self._shares, seed=seed, team=team)
        self._validation, self._criteria = validation, criteria
        self._on_step, self._on_checkpoint, self._on_numbers = on_step, on_checkpoint, on_numbers
        self._done = 0
        self._trials_before = resume.trials if resume else ()
        self._run_before = resume.run if resume else None
        self._highest = resume.highest if resume else None
        self._kept = _load_kept(start, *resume.kept) if resume and resume.kept else None
        self.trials: list[Trial] = []
        self.before = team.agree(lambda: self._measure(start))
        if resume is None:
            self._tell("before", 0, self.before.curves())

    def choose(self, setting: Setting, step_count: int) -> tuple[Trial, PreTrainedModel]:
        """The last snapshot measured of those that were as good as the best until then, with a model of its own."""
        for snapshot in self._descend(setting, step_count, 0):
            trial, model = self._assess(setting, snapshot, self._done + snapshot.step)
            rank = self.rank(trial)
            self._highest = rank if self._highest is None else max(rank, self._highest)
            if _is_as_good(rank, self._highest, trial.evidence):
                self._kept = (trial, model)
        return self._kept

    def probe(self, setting: Setting, step_count: int, steps_after: int) -> Trial:
        """The last snapshot measured, added to `trials`; `steps_after` are known to follow other than these."""
        if len(self.trials) < len(self._trials_before):
            trial = self._trials_before[len(self.trials)]
            self._done += step_count
        else:
            *_, last = self._descend(setting, step_count, steps_after)
            trial, _ = self._assess(setting, last, self._done)
        self.trials.append(trial)
        return trial

    def rank(self, trial: Trial) -> Rank:
        """`_rank` against the model that all start from."""
        return _rank(trial.evidence, self.before, self._criteria)

    def _descend(self, setting: Setting, step_count: int, steps_after: int) -> Iterator[Snapshot]:
        total = self._done + step_count + steps_after
        resume, self._run_before = self._run_before, None
        on_losses = partial(self._tell_losses, setting)
        for snapshot in self._fine_tune(
            setting, step_count=step_count, resume=resume, offer=self._offer, on_losses=on_losses
        ):
            if self._team.leads:
                self._on_step(self._done + snapshot.step, total, snapshot.loss)
            yield snapshot
        self._done += step_count

    def _offer(self, save_run: Callable[[], RunState]) -> None:
        self._on_checkpoint(partial(self._save, save_run))

    def _save(self, save_run: Callable[[], RunState]) -> Checkpoint:
        run = save_run()
        kept = self._kept and (self._kept[0], copy_weights(self._kept[1]))
        return Checkpoint(self._done + run.step, tuple(self.trials), run, self._highest, kept)

    def _assess(self, setting: Setting, snapshot: Snapshot, step: int) -> tuple[Trial, PreTrainedModel]:
        """`step` is the snapshot's, counted over all runs."""
        model = restore_decisions(snapshot.model, self._validation, self._decisions)
        trial = Trial(setting, snapshot.step, self._team.agree(lambda: self._measure(model)))
        self._tell("snapshot", step, trial.evidence.curves())
        return trial, model

    def _tell_losses(self, setting: Setting, losses: StepLosses) -> None:
        numbers = {
            "cross_entropy": losses.cross_entropy,
            "penalty": losses.penalty,
            "learning_rate": losses.learning_rate,
            "strength": setting.strength,
        }
        self._tell("step", self._done + losses.step, numbers)

    def _tell(self, group: str, step: int, numbers: Mapping[str, float]) -> None:
        if self._team.leads:
            self._on_numbers(step, {f"{group}/{name}": value for name, value in numbers.items()})


def _load_kept(start: PreTrainedModel, trial: Trial, weights: dict[str, torch.Tensor]) -> tuple[Trial, PreTrainedModel]:
    model = copy.deepcopy(start).eval()
    model.load_state_dict(weights)
    return trial, model


def _try_settings(runs: _Runs, rates: Sequence[float], strengths: Sequence[float], step_count: int) -> Setting:
    """The setting that short trials speak for. None are made where there is no choice."""
    planned = len(rates) + len(strengths) - 1
    if planned == 1:
        return Setting(rates[0], strengths[0])
    probe_count = max(1, round(PROBE_RATIO * step_count))

    def attempt(setting: Setting) -> Trial:
        return runs.probe(setting, probe_count, (planned - len(runs.trials) - 1) * probe_count + step_count)

    climb = [max([attempt(Setting(rate, strengths[0])) for rate in rates], key=runs.rank)]
    for strength in strengths[1:]:
        climb.append(attempt(replace(climb[0].setting, strength=strength)))
        if runs.rank(climb[-1]) < runs.rank(climb[-2]):
            break
    highest = max(map(runs.rank, climb))
    return next(t.setting for t in climb if _is_as_good(runs.rank(t), highest, t.evidence))


def _is_as_good(rank: Rank, highest: Rank, evidence: Evidence) -> bool:
    """Whether swap accuracy is at most one standard error below the highest, and the gate would say the same.

    Source: the one-standard-error rule of Breiman et al. 1984, section 3.4.3.
    """
    ratio = highest[-1]
    error = math.sqrt(ratio * (1 - ratio) / evidence.swap_count)
    return rank[:-1] == highest[:-1] and rank[-1] >= ratio - error


def list_strengths(start: PreTrainedModel, critiqued: Pictures, recipe: Recipe, seed: int) -> list[float]:
    """λ to try, weakest first, each ten times the one before; 0 alone for a recipe without a penalty.

    The first is the one at which the penalty of `start` weighs as much as the cross-entropy of a guess, ln K for K classes. So the
    scale of the inputs and of the logits is accounted for.

    Source: LVLM-VA (arXiv 2512.21985) starts where penalty and cross-entropy are alike; differs: the cross-entropy of a model that takes a
    shortcut is nearly zero on the pictures that it is surest of, so it is no measure.

    Raises: ValueError when no picture of `critiqued` has a region.
    """
    with_region = critiqued.rows_with_region()
    if not len(with_region):
        raise ValueError("critiqued: expected pictures with masks")
    if not recipe.critiqued_count:
        return [0.0]
    generator = torch.Generator().manual_seed(seed)
    rows = with_region[torch.randperm(len(with_region), generator=generator)[:_MEASURED_PICTURES]]
    with sdpa_kernel(SDPBackend.MATH):  # as in fine-tuning
        penalty = float(recipe.loss(start, critiqued.take(rows).to(start.device), generator).penalty.detach())
    first = math.log(start.config.num_labels) / max(penalty, _LEAST_PENALTY)
    return [first * 10**power for power in range(STRENGTH_STEPS)]


def _rank(evidence: Evidence, before: Evidence, criteria: Criteria) -> Rank:
    """Higher is better: what the gate would accept first, then what keeps as much accuracy as the gate asks for, then swap accuracy."""
    is_accepted = decide(before, evidence, criteria).is_accepted
    return is_accepted, keeps_accuracy(before, evidence, criteria), evidence.swap_accuracy

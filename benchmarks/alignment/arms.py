"""The rows of the table: the method, what it is without each of its parts, its judge replaced, and what others would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import ndimage
from transformers import PreTrainedModel

from benchmarks.alignment import baselines
from benchmarks.alignment.judging import (
    all_spurious,
    draw_verdicts,
    judge_with_truth,
    score_judge,
    turn_round,
    where_artefacts_are,
)
from benchmarks.alignment.stage import Critiqued, Stage
from services.common.vision.critique import Verdict
from services.explainer.domain.segmentation.segments import SegmentationOptions
from services.trainer.domain.alignment import Alignment
from services.trainer.domain.correction import correct_last_layer
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import compare_reliance, make_swaps, measure
from services.trainer.domain.fine_tuning import PAPER_RECIPE, Recipe
from services.trainer.domain.gate import decide
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.selection import Selection

CORRECTION_RANKS = (1, 4, 16)
CORRECTION_WEIGHTS = (0.3, 1.0, 3.0, 10.0)
FLIP_RATIOS = (0.0, 0.13, 0.3, 0.58)

Arm = Callable[[Stage], tuple[PreTrainedModel, dict[str, Any]]]


def plain(stage: Stage) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The model that takes the shortcut."""
    return stage.plain, {}


def nano(stage: Stage) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The method, by sentences alone, with the judge's score and where the evidence lies before and after."""
    model, told = Aligned()(stage)
    critiqued, held_out = stage.critique(), stage.critique("held_out")
    told["judge"] = score_judge(critiqued.explained, critiqued.verdicts)
    by_verdict = {
        verdict.value: stage.pictures(held_out.explained.shown, held_out.explained.masks(held_out.verdicts, verdict))
        for verdict in (Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE)
    }
    reference = stage.validation.pixels.mean(dim=0)
    told["evidence_by_verdict"] = compare_reliance(stage.plain, model, by_verdict, reference)
    return model, told


@dataclass(frozen=True)
class Aligned:
    """The trainer's `align` in one way; `judge` gives the verdicts, the truth about the artefacts where it is None.

    That truth has every pixel that an artefact touches, and none beside it; `widened_px` more on each side, in steps along the rows and columns.
    """

    judge: Callable[[Critiqued, int], np.ndarray] | None = lambda critiqued, seed: critiqued.verdicts
    widened_px: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    options: SegmentationOptions = field(default_factory=SegmentationOptions)
    selection: Selection = Selection.LOW_ENTROPY_PER_CLASS

    def __call__(self, stage: Stage) -> tuple[PreTrainedModel, dict[str, Any]]:
        def choose(critiqued: Critiqued) -> np.ndarray:
            if self.judge is None:
                return widen(critiqued.explained.shown.artefacts, self.widened_px)
            return critiqued.explained.masks(self.judge(critiqued, stage.seed))

        return _tell(stage.align(self.recipe, choose, self.options, self.selection))


def widen(masks: np.ndarray, width_px: int) -> np.ndarray:
    """Masks (n, height, width) that reach so many steps further along rows and columns."""
    along_rows_and_columns = ndimage.generate_binary_structure(2, 1)[None]
    return ndimage.binary_dilation(masks, along_rows_and_columns, width_px) if width_px else masks


def correction(stage: Stage) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Training-free: the last layer forgets how features move when regions are moved; how much of it, swaps on held-out pictures choose."""
    critiqued, held_out = stage.critique(), stage.critique("held_out")
    pictures, judged = (
        stage.pictures(some.explained.shown, some.explained.masks(some.verdicts)) for some in (critiqued, held_out)
    )
    pairs, swaps = make_swaps(pictures, stage.seed), make_swaps(judged, stage.seed)
    before = measure(stage.plain, stage.validation, judged, swaps)

    def rank(model: PreTrainedModel) -> tuple[bool, float]:
        after = measure(model, stage.validation, judged, swaps)
        return decide(before, after, Criteria()).is_accepted, after.swap_accuracy

    ways = [(width, weight) for width in CORRECTION_RANKS for weight in CORRECTION_WEIGHTS]
    as_is = pictures.take(pairs.rows).pixels
    models = {way: correct_last_layer(stage.plain, pairs.moved.pixels, as_is, *way) for way in ways}
    width, weight = max(ways, key=lambda way: rank(models[way]))
    return models[width, weight], {"rank": width, "weight": weight, "is_accepted": rank(models[width, weight])[0]}


def _by_truth(flip_ratio: float, critiqued: Critiqued, seed: int) -> np.ndarray:
    return judge_with_truth(critiqued.explained, flip_ratio, seed)


def _tell(alignment: Alignment) -> tuple[PreTrainedModel, dict[str, Any]]:
    after = alignment.chosen.evidence
    return alignment.model, {
        **asdict(alignment.chosen.setting),
        "step": alignment.chosen.step,
        "trials": [
            {**asdict(trial.setting), "swap_accuracy": trial.evidence.swap_accuracy} for trial in alignment.trials
        ],
        "before": alignment.before.as_dict(),
        "after": after.as_dict(),
        "is_accepted": decide(alignment.before, after, Criteria()).is_accepted,
    }


def _baseline(make: Callable[..., PreTrainedModel], stage: Stage) -> tuple[PreTrainedModel, dict[str, Any]]:
    return make(stage), {}


ARMS: dict[str, Arm] = {
    "plain": plain,
    "nano": nano,
    "ground-truth masks": Aligned(judge=None),
    # Which masks are as large as *nano*'s on films, where those do better than the truth.
    "ground-truth masks, 3 px wider": Aligned(judge=None, widened_px=3),
    # What *nano* also finds there is letters of the films' own.
    "nano, on pictures with the artefact": Aligned(
        judge=lambda critiqued, _: where_artefacts_are(critiqued.explained, critiqued.verdicts)
    ),
    **{f"judge wrong in {ratio:.0%}": Aligned(judge=partial(_by_truth, ratio)) for ratio in FLIP_RATIOS},
    "random verdicts": Aligned(judge=lambda critiqued, seed: draw_verdicts(critiqued.verdicts, seed)),
    "all segments": Aligned(judge=lambda critiqued, _: all_spurious(critiqued.verdicts)),
    "inverted verdicts": Aligned(judge=lambda critiqued, _: turn_round(critiqued.verdicts)),
    "regions not moved": Aligned(recipe=PAPER_RECIPE),
    "regions moved, no penalty": Aligned(recipe=replace(Recipe(), critiqued_count=0)),
    # Ordinary training goes on, and the best of its snapshots is held before the gate, which should take none.
    "neither moved nor penalised": Aligned(recipe=replace(PAPER_RECIPE, critiqued_count=0)),
    "regions keep their brightness": Aligned(recipe=replace(Recipe(), redrawn_ratio=0.0)),
    "whole tiles as masks": Aligned(options=SegmentationOptions(kept_evidence_ratio=1.0)),
    "lowest entropy overall": Aligned(selection=Selection.LOW_ENTROPY),
    "pictures at random": Aligned(selection=Selection.RANDOM),
    "paper's way": Aligned(
        recipe=PAPER_RECIPE, options=SegmentationOptions(kept_evidence_ratio=1.0), selection=Selection.LOW_ENTROPY
    ),
    "R4": Aligned(recipe=replace(Recipe(), loss=LOSSES["R4"])),
    "mask-out": Aligned(recipe=replace(Recipe(), loss=LOSSES["MASK_OUT"])),
    "ground-truth masks, not moved": Aligned(judge=None, recipe=PAPER_RECIPE),
    "ground-truth masks, not moved, R4": Aligned(judge=None, recipe=replace(PAPER_RECIPE, loss=LOSSES["R4"])),
    "correction without training": correction,
    "L2 only": partial(
        _baseline,
        lambda stage: baselines.l2_only(stage.plain, stage.problem, stage.effort.baseline_step_count, stage.seed),
    ),
    "JTT*": partial(
        _baseline,
        lambda stage: baselines.just_train_twice(
            stage.plain, stage.problem, stage.problem.group_labelled, stage.effort.baseline_step_count, stage.seed
        ),
    ),
    "DFR*": partial(
        _baseline,
        lambda stage: baselines.deep_feature_reweighting(
            stage.plain, stage.problem, stage.problem.group_labelled, stage.seed
        ),
    ),
    "SUBG*": partial(
        _baseline,
        lambda stage: baselines.subsample_groups(
            stage.plain, stage.problem, stage.problem.group_labelled, stage.effort.baseline_step_count, stage.seed
        ),
    ),
}
"""By name; those with a star are given group labels."""

"""Explained pictures and what a judge says of their segments: the LVLM service's own critic and judge, or the truth with mistakes.

The way is the service's: its attribution, its segmentation, its prompts, its engine; only the transport between services is left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.nano.scoring import NO_DIGEST
from services.common.vision.critique import Critique, Verdict
from services.common.vision.explanation import Segment
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute
from services.explainer.domain.segmentation.segments import MAX_SEGMENTS, SegmentationOptions, segment_maps
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.settings import LvlmSettings

BASELINE_COUNT = 20
SPURIOUS_RATIO = 0.5
"""A segment is truly spurious when more than half of its pixels lie on the artefact."""
NOTHING = ""
_AT_ONCE = 128


@dataclass(frozen=True)
class Explained:
    """Pictures with the segments of the class that the model decided for.

    Shapes: decided (n,) int64, those classes; numbers (n, height, width) uint8, the segment that a pixel belongs to, 0 for none.
    """

    shown: LabelledPictures
    decided: np.ndarray
    numbers: np.ndarray

    def segment(self, number: int) -> np.ndarray:
        """The pixels of one segment in every picture, bool (n, height, width)."""
        return self.numbers == number

    def masks(self, verdicts: np.ndarray, verdict: Verdict = Verdict.SPURIOUS) -> np.ndarray:
        """Union of each picture's segments with that verdict, bool (n, height, width)."""
        rows = np.arange(len(self.numbers))[:, None, None]
        return (verdicts == verdict.value)[rows, self.numbers]


def explain(
    problem: Problem, model: PreTrainedModel, shown: LabelledPictures, seed: int, options: SegmentationOptions
) -> Explained:
    """Attribute and segment, as the explainer does, with training pictures as baselines."""
    baselines = choose_baselines(problem, seed)
    decided, numbers = [], np.zeros(shown.artefacts.shape, dtype=np.uint8)
    for start in range(0, len(shown), _AT_ONCE):
        pixels = problem.to_pixels(shown.pictures[start : start + _AT_ONCE])
        with torch.inference_mode():
            targets = model(pixel_values=pixels).logits.argmax(dim=1)
        maps = attribute(METHODS[DEFAULT_METHOD], model, pixels, targets.clone(), baselines).maps
        for row, segments in enumerate(segment_maps(maps.numpy(), options), start):
            for segment in segments:
                numbers[row][segment.mask] = segment.index
        decided.append(targets.numpy())
    return Explained(shown, np.concatenate(decided), numbers)


def choose_baselines(problem: Problem, seed: int) -> torch.Tensor:
    """(20, channel, height, width): training pictures that attributions are counted from."""
    rows = np.random.default_rng(seed).choice(len(problem.train), BASELINE_COUNT, replace=False)
    return problem.to_pixels(problem.train.pictures[rows])


def judge_with_lvlm(problem: Problem, explained: Explained, threads: int) -> np.ndarray:
    """Verdicts (n, 1 + most segments), column 0 of no segment, by the engine that LVLM_* settings name; `nano` without any."""
    verdicts = _no_verdicts(explained)
    pictures = [picture for row in range(len(explained.shown)) if (picture := _show(problem, explained, row)).segments]
    for critique in criticise(problem, pictures, threads):
        for judged in critique.verdicts:
            verdicts[int(critique.image_id), judged.segment_index] = judged.verdict.value
    return verdicts


def criticise(problem: Problem, pictures: Sequence[ExplainedPicture], threads: int) -> list[Critique]:
    """A critique per picture, in order, by the engine that LVLM_* settings name; `nano` without any."""
    settings = LvlmSettings(listen="127.0.0.1:0", threads=threads, answer_timeout_s=3600)
    return asyncio.run(_criticise(problem, pictures, settings))


async def _criticise(problem: Problem, pictures: Sequence[ExplainedPicture], settings: LvlmSettings) -> list[Critique]:
    critiques: list[Critique] = []
    async with build_engine(settings) as engine:
        translating = Translating(engine, load_profile(settings.profile), None, settings.seed)
        for start in range(0, len(pictures), _AT_ONCE):
            some = pictures[start : start + _AT_ONCE]
            critiques += await translating.translate(NO_DIGEST, problem.specification, some)
    return critiques


def _show(problem: Problem, explained: Explained, row: int) -> ExplainedPicture:
    numbers, shown = explained.numbers[row], explained.shown
    present = [number for number in range(1, MAX_SEGMENTS + 1) if (numbers == number).any()]
    # The critic never sees a share, so an equal one does.
    segments = tuple(Segment(number, 1 / len(present), numbers == number) for number in present)
    decided, true = (problem.labels[label] for label in (explained.decided[row], shown.labels[row]))
    return ExplainedPicture(str(row), NO_DIGEST, shown.pictures[row], decided, true, segments)


def judge_with_truth(explained: Explained, flip_ratio: float = 0.0, seed: int = 0) -> np.ndarray:
    """SPURIOUS where more than half of a segment lies on the artefact, else CORE; each turned round with probability `flip_ratio`.

    Source: LVLM-VA (arXiv 2512.21985), the experiment with bit flips, which places a judge of known accuracy.
    """
    rng = np.random.default_rng(seed)
    verdicts = _no_verdicts(explained)
    for number in range(1, MAX_SEGMENTS + 1):
        segment = explained.segment(number)
        size = segment.sum(axis=(1, 2))
        is_spurious = (segment & explained.shown.artefacts).sum(axis=(1, 2)) > SPURIOUS_RATIO * size
        is_spurious ^= rng.random(len(size)) < flip_ratio
        named = np.where(is_spurious, Verdict.SPURIOUS.value, Verdict.CORE.value)
        verdicts[:, number] = np.where(size > 0, named, NOTHING)
    return verdicts


def _no_verdicts(explained: Explained) -> np.ndarray:
    return np.full((len(explained.numbers), MAX_SEGMENTS + 1), NOTHING, dtype="<U8")


def turn_round(verdicts: np.ndarray) -> np.ndarray:
    """SPURIOUS for CORE and the other way round; UNSURE stays."""
    spurious, core = Verdict.SPURIOUS.value, Verdict.CORE.value
    return np.where(verdicts == spurious, core, np.where(verdicts == core, spurious, verdicts))


def draw_verdicts(verdicts: np.ndarray, seed: int) -> np.ndarray:
    """As many SPURIOUS among all segments as in `verdicts`, at random, the others CORE."""
    is_segment = verdicts != NOTHING
    ratio = (verdicts == Verdict.SPURIOUS.value).sum() / max(1, is_segment.sum())
    draws = np.random.default_rng(seed).random(verdicts.shape)
    return np.where(is_segment, np.where(draws < ratio, Verdict.SPURIOUS.value, Verdict.CORE.value), NOTHING)


def all_spurious(verdicts: np.ndarray) -> np.ndarray:
    """Every segment SPURIOUS."""
    return np.where(verdicts != NOTHING, Verdict.SPURIOUS.value, NOTHING)


def where_artefacts_are(explained: Explained, verdicts: np.ndarray) -> np.ndarray:
    """The verdicts of pictures that show an artefact, none of the others."""
    has_artefact = explained.shown.artefacts.any(axis=(1, 2))
    return np.where(has_artefact[:, None], verdicts, NOTHING)


def score_judge(explained: Explained, verdicts: np.ndarray) -> dict[str, float | int | None]:
    """Verdicts against the truth (`judge_with_truth`); ratios, None where there is nothing to count.

    verdict_accuracy: of segments judged SPURIOUS or CORE. decided: share that was judged so. spurious_recall: of truly spurious
    segments, judged so. core_masked: of truly core ones, judged SPURIOUS, the harmful mistake. artefact_pictures: share that shows one.
    """
    truth = judge_with_truth(explained)
    spurious, core = Verdict.SPURIOUS.value, Verdict.CORE.value
    is_segment = truth != NOTHING
    is_decided = is_segment & ((verdicts == spurious) | (verdicts == core))
    return {
        "segments": int(is_segment.sum()),
        "verdict_accuracy": _mean((verdicts == truth)[is_decided]),
        "decided": _mean(is_decided[is_segment]),
        "spurious_recall": _mean((verdicts == spurious)[truth == spurious]),
        "core_masked": _mean((verdicts == spurious)[truth == core]),
        "artefact_pictures": _mean(explained.shown.artefacts.any(axis=(1, 2))),
    }


def _mean(hits: np.ndarray) -> float | None:
    return round(float(hits.mean()), 4) if hits.size else None

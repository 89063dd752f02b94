"""Masks of what must not matter, three ways, against the truth: judged segments, grounded regions, segments on which both agree.

Run: python -m benchmarks.lvlm.masks --out FILE [--count N] [--seed S] [--sets WORD ...]

The truth is the cover of the picture. A picture counts when it shows a thing that its specification rules out. Looked for are the named
things that the picture shows and one named thing that it does not, by their plain names. Per way: mean intersection over union with the
things ruled out; and the harmful direction, the mean share of the pixels of what must matter that the mask covers. A mask that did not
come about is an empty one here, counted beside it: it harms nothing and finds nothing. *boxes* are the grounded boxes before refinement.
LVLM_* settings choose another engine than `nano`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.nano.cases import Case, list_sets
from benchmarks.nano.scoring import ask
from benchmarks.provenance import where, write_report
from services.common.vision.critique import Critique, Verdict
from services.common.vision.masks import decode_mask
from services.common.vision.typed_rules import Polarity
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine, build_grounding
from services.lvlm.domain.agreement import Looked, agree, judge_by_regions
from services.lvlm.handlers.grounding import Grounding
from services.lvlm.nano import things
from services.lvlm.settings import LvlmSettings

WAYS = ("judged segments", "grounded regions", "boxes", "grounded segments", "agreed segments")
SEVERAL = "several things"
NAMELESS = (things.BACKGROUND, things.UNKNOWN)


@dataclass(frozen=True)
class Sought:
    """A named thing of a case, by its code, and what came of looking for it."""

    code: int
    looked: Looked


def main() -> None:
    """Measure all sets and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=128, help="pictures drawn per set")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--sets", nargs="*", default=[""], help="parts of the names of the sets to measure; default: all"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.disable_progress_bar()
    report = {"about": where() | {"seed": arguments.seed, "count": arguments.count}, "sets": {}}
    for name, draw in list_sets(arguments.seed).items():
        if any(part in name for part in arguments.sets):
            cases = [case for case in draw(np.random.default_rng(arguments.seed), arguments.count) if _forbidden(case)]
            report["sets"][name] = score(cases, ask(cases, arguments.threads), look_for_all(cases, arguments.threads))
            sys.stdout.write(f"{name}: {json.dumps(report['sets'][name]['ways'])}\n")
            sys.stdout.flush()
    write_report(arguments.out, report)


def look_for_all(cases: Sequence[Case], threads: int) -> list[list[Sought]]:
    """Per case what was looked for, by the engine that LVLM_* settings name."""
    return asyncio.run(
        _open_and_look(cases, LvlmSettings(listen="127.0.0.1:0", threads=threads, answer_timeout_s=3600))
    )


async def _open_and_look(cases: Sequence[Case], settings: LvlmSettings) -> list[list[Sought]]:
    profile = load_profile(settings.profile)
    async with build_engine(settings) as engine:
        grounding = build_grounding(settings, engine, profile)
        return list(await asyncio.gather(*(look_for(grounding, case) for case in cases)))


async def look_for(grounding: Grounding, case: Case) -> list[Sought]:
    """The named things that the picture shows, and one that it does not."""
    polarities = {code: Polarity.MUST for code in case.specification.matters}
    polarities |= {code: Polarity.MUST_NOT for code in case.specification.must_not_matter}
    named = [code for code in sorted(polarities) if code not in NAMELESS]
    shown = [code for code in named if (case.cover == code).any()]
    codes = shown + [code for code in named if code not in shown][:1]
    found = await grounding.ground(case.picture, [things.WITH_ARTICLE[code] for code in codes])
    return [Sought(code, Looked(polarities[code], item)) for code, item in zip(codes, found, strict=True)]


def score(cases: Sequence[Case], critiques: Sequence[Critique], sought: Sequence[Sequence[Sought]]) -> dict[str, Any]:
    """All ways over all cases, and by the thing that is ruled out; what came of the phrases, by thing. Ratios from 0 to 1."""
    rows: dict[str, dict[str, list[tuple[float, float, bool]]]] = {way: defaultdict(list) for way in WAYS}
    for case, critique, looked in zip(cases, critiques, sought, strict=True):
        forbidden = _forbidden(case)
        truth, core = np.isin(case.cover, forbidden), np.isin(case.cover, list(case.specification.matters))
        thing = things.CONCEPTS[forbidden[0]] if len(forbidden) == 1 else SEVERAL
        for way, mask in make_masks(case, critique, [item.looked for item in looked]).items():
            rows[way][thing].append((iou_of(mask, truth), _covered(core, mask), not mask.any()))
    return {
        "pictures": len(cases),
        "failed_picture_ratio": mean_of(bool(critique.failure) for critique in critiques),
        "ways": {way: _summarise([row for group in rows[way].values() for row in group]) for way in WAYS},
        "by_thing": {thing: {way: _summarise(rows[way][thing]) for way in WAYS} for thing in sorted(rows[WAYS[0]])},
        "phrases": _count_phrases(cases, sought),
    }


def make_masks(case: Case, critique: Critique, looked: Sequence[Looked]) -> dict[str, np.ndarray]:
    """What must not matter, boolean (height, width), by each way."""
    size = case.cover.shape
    segments = [case.numbers == number for number in range(1, len(case.covered) + 1)]
    judged = [verdict.verdict for verdict in critique.verdicts]
    grounded = judge_by_regions(segments, looked)
    agreed = [agree(*pair) for pair in zip(judged, grounded, strict=True)]
    ruled_out = [item.grounded for item in looked if item.polarity is Polarity.MUST_NOT]
    masks = dict.fromkeys(WAYS)
    for way, verdicts in zip((WAYS[0], *WAYS[3:]), (judged, grounded, agreed), strict=True):
        pairs = zip(segments, verdicts, strict=True)
        masks[way] = _unite((segment for segment, verdict in pairs if verdict is Verdict.SPURIOUS), size)
    masks["grounded regions"] = _unite(
        (decode_mask(item.mask.counts, *item.mask.size) for item in ruled_out if item.mask), size
    )
    masks["boxes"] = np.zeros(size, dtype=bool)
    for item in ruled_out:
        for refined in item.boxes:
            masks["boxes"][refined.box.window] = True
    return masks


def iou_of(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two boolean masks, one of which is not empty."""
    return float((mask & truth).sum() / (mask | truth).sum())


def mean_of(values: Iterable[float]) -> float | None:
    """To four places; none of nothing."""
    listed = [float(value) for value in values]
    return round(sum(listed) / len(listed), 4) if listed else None


def _forbidden(case: Case) -> list[int]:
    """The things that the specification rules out and the picture shows."""
    return [
        code
        for code in sorted(case.specification.must_not_matter)
        if code not in NAMELESS and (case.cover == code).any()
    ]


def _count_phrases(cases: Sequence[Case], sought: Sequence[Sequence[Sought]]) -> dict[str, dict[str, Any]]:
    """By thing: how often each answer came where it is shown and where it is not, and the mean IoU of its regions where it is."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    overlaps: dict[str, list[float]] = defaultdict(list)
    for case, looked in zip(cases, sought, strict=True):
        for item in looked:
            truth, grounded = case.cover == item.code, item.looked.grounded
            name = things.CONCEPTS[item.code]
            counts[name][f"{'shown' if truth.any() else 'not shown'}->{grounded.state.value}"] += 1
            if truth.any():
                mask = grounded.mask and decode_mask(grounded.mask.counts, *grounded.mask.size)
                overlaps[name].append(0.0 if mask is None else iou_of(mask, truth))
    return {
        name: {"answers": dict(sorted(group.items())), "mean_iou_ratio": mean_of(overlaps[name])}
        for name, group in sorted(counts.items())
    }


def _summarise(rows: Sequence[tuple[float, float, bool]]) -> dict[str, float]:
    return {
        "pictures": len(rows),
        "mean_iou_ratio": mean_of(iou for iou, _, _ in rows),
        "core_covered_ratio": mean_of(covered for _, covered, _ in rows if not np.isnan(covered)),
        "empty_ratio": mean_of(is_empty for _, _, is_empty in rows),
    }


def _unite(masks: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    union = np.zeros(size, dtype=bool)
    for mask in masks:
        union |= mask
    return union


def _covered(core: np.ndarray, mask: np.ndarray) -> float:
    """Share of the pixels that must matter under the mask; not a number where the picture shows none."""
    return float((core & mask).sum() / core.sum()) if core.any() else float("nan")


if __name__ == "__main__":
    main()

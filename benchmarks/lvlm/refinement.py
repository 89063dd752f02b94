"""What superpixels make of boxes, apart from any language model: true boxes, made a little too large, against the truth.

Run: python -m benchmarks.lvlm.refinement --out FILE [--count N] [--seed S] [--slack RATIO]

Every connected part of a thing gets its smallest box, each side of which is moved outwards by up to `slack` of the box. Per thing: mean
intersection over union of the plain boxes and of what refinement keeps, and the share of boxes that are kept whole for want of an outline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage.measure import label, regionprops

from benchmarks.lvlm.masks import NAMELESS, iou_of, mean_of
from benchmarks.nano.cases import Case, list_sets
from benchmarks.provenance import where, write_report
from services.common.vision.masks import decode_mask
from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.regions import put_together
from services.lvlm.domain.superpixels import outline
from services.lvlm.nano import things

SETS = (
    "digits: drawn, held out",
    "skin: drawn, held out",
    "films: drawn, held out",
    "real photographs with stickers",
    "real films with drawn marks",
)
GROUNDS = (*NAMELESS, things.SKIN, things.BODY)
MAX_PARTS = 32

Row = tuple[float, float, float]


def main() -> None:
    """Measure all sets that are there and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=80, help="pictures per set")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--slack", type=float, default=0.1)
    arguments = parser.parse_args()
    report = {"about": where() | vars(arguments) | {"out": str(arguments.out)}, "sets": {}}
    drawn = list_sets(arguments.seed)
    for name in [name for name in SETS if name in drawn]:
        rows = measure(
            drawn[name](np.random.default_rng(arguments.seed), arguments.count), arguments.seed, arguments.slack
        )
        every = [row for group in rows.values() for row in group]
        report["sets"][name] = _summarise(every) | {
            "by_thing": {thing: _summarise(group) for thing, group in sorted(rows.items())}
        }
        sys.stdout.write(f"{name}: {json.dumps(_summarise(every))}\n")
        sys.stdout.flush()
    write_report(arguments.out, report)


def measure(cases: Sequence[Case], seed: int, slack: float) -> dict[str, list[Row]]:
    """By thing and picture: IoU of boxes, IoU of what is kept of them, share of boxes kept whole."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Row]] = defaultdict(list)
    for case in cases:
        for code in [code for code in np.unique(case.cover) if code not in GROUNDS]:
            truth = case.cover == code
            boxes = [_loosen(rng, part.bbox, truth.shape, slack) for part in regionprops(label(truth))[:MAX_PARTS]]
            found = put_together("", boxes, [outline(case.picture, box) for box in boxes], truth.shape)
            boxed = np.zeros(truth.shape, dtype=bool)
            for box in boxes:
                boxed[box.window] = True
            whole = float(np.mean([refined.is_whole for refined in found.boxes]))
            kept = decode_mask(found.mask.counts, *found.mask.size)
            rows[things.CONCEPTS[code]].append((iou_of(boxed, truth), iou_of(kept, truth), whole))
    return rows


def _loosen(
    rng: np.random.Generator, bounds: tuple[int, int, int, int], size: tuple[int, int], slack: float
) -> PixelBox:
    top, left, bottom, right = bounds
    room = slack * np.array([bottom - top, right - left, bottom - top, right - left]) * rng.random(4)
    return PixelBox(
        max(0, round(top - room[0])),
        max(0, round(left - room[1])),
        min(size[0], round(bottom + room[2])),
        min(size[1], round(right + room[3])),
    )


def _summarise(rows: Sequence[Row]) -> dict[str, float | int | None]:
    names = ("box_iou_ratio", "kept_iou_ratio", "whole_ratio")
    return {"count": len(rows)} | {
        name: mean_of(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


if __name__ == "__main__":
    main()

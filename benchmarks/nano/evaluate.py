"""Measure the LVLM service's verdicts end to end: critic, then judge, as in production.

Run: python -m benchmarks.nano.evaluate --out FILE [--count N] [--seed S]

Drawn scenes of every world as in training and held out (other fonts, sizes, colours, textures, sentences); real digits with decoys under
drawn evidence and under the segments that the loop itself makes of a model that learned the decoy; real films with drawn marks, real photographs
with stickers, and pictures from outside every world. Sentences come from the held-out part of the grammar or from a file written by hand. A sheet
of examples, right ones and wrong ones, goes beside the figures.
LVLM_* settings choose another engine than `nano`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from benchmarks.nano.cases import list_sets
from benchmarks.nano.examples import draw_examples
from benchmarks.nano.scoring import Answered, ask_and_score
from benchmarks.provenance import where, write_report


def main() -> None:
    """Run all measurements and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=512, help="pictures per set")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    report = {"about": where() | {"seed": arguments.seed}, "sets": {}}
    answered: dict[str, list[Answered]] = {}
    for name, draw in list_sets(arguments.seed).items():
        answered[name], found = ask_and_score(draw(np.random.default_rng(arguments.seed), arguments.count))
        report["sets"][name] = found
        sys.stdout.write(
            f"{name}: verdicts {found['verdict_accuracy_ratio']:.3f} ± {found['verdict_standard_error']:.3f}, sight {found['sight_accuracy_ratio']:.3f}, "
            f"opposite {found['opposite_verdict_ratio']:.3f} ({found['segments']} segments)\n"
        )
        sys.stdout.flush()
    write_report(arguments.out, report)
    draw_examples(answered, arguments.out.with_name("examples.png"))


if __name__ == "__main__":
    main()

"""What alignment costs: a step of fine-tuning against a plain one, and the making of critiques.

Run: python -m benchmarks.alignment.cost --out FILE [--repeats R] [--seed S]

A *plain* step is cross-entropy on as many training pictures as a batch of `Recipe` holds, with the same optimiser and schedule; the others are the
trainer's own `fine_tune`, which draws its batch, moves regions and differentiates twice. A repeat takes all ways, in changing order, each from the same
start; ratios are within a repeat. Set-up and the first steps are not counted. The nets are hardly trained and the masks are the true squares: neither
changes what a step computes. The ResNet has the digits enlarged to 112×112, and a quarter of every count of the recipe.

Critiques are made as in the benchmark of alignment, of the decoy digits and the net of Ross et al. 2017; loading `nano` is not counted.

Time is the processor's, on one thread.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from benchmarks.alignment.digits import NETS, load_digits
from benchmarks.alignment.judging import BASELINE_COUNT, explain, judge_with_lvlm
from benchmarks.alignment.problem import Problem
from benchmarks.alignment.small_resnet import train_resnet
from benchmarks.decoy.data import MNIST
from benchmarks.decoy.shortcut_model import LABELS, train_net
from benchmarks.provenance import where, write_report
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.trainer.domain.fine_tuning import PAPER_RECIPE, Recipe, Setting, fine_tune
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.selection import select_for_alignment

PLAIN, ALIGNED = "plain", "aligned"
WAYS: dict[str, Recipe] = {
    ALIGNED: Recipe(),
    **{f"aligned, {name}": replace(Recipe(), loss=LOSSES[name]) for name in ("R4", "MASK_OUT")},
    "paper's mixed batch": PAPER_RECIPE,
}
STRENGTH = 1e-2
CRITIQUED_PER_CLASS = 100
ENLARGED_COUNT, ENLARGEMENT = 4000, 4
EXPLAINED_COUNT, JUDGED_COUNT, WARM_UP_COUNT = 1000, 200, 8
EPOCHS = 8
"""Passes of the net whose decisions are explained: enough to take the shortcut."""
_FORWARD_BATCH, _EXPLAIN_BATCH = 1024, 128


@dataclass(frozen=True)
class Workload:
    """A net with what it is fine-tuned on; `divisor` of the recipe's counts, `step_count` steps a measurement."""

    start: PreTrainedModel
    ordinary: Pictures
    critiqued: Pictures
    step_count: int
    divisor: int = 1


def main() -> None:
    """Measure both parts and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not MNIST.is_file():
        parser.error("expected MNIST in ../shared/data/mnist.npz")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    problem = load_digits("ross", arguments.seed)
    steps = {
        name: compare_steps(name, make(), arguments.repeats)
        for name, make in list_workloads(problem, arguments.seed).items()
    }
    report = {
        "about": where() | {"threads": 1, "seed": arguments.seed, "repeats": arguments.repeats},
        "steps": steps,
        "critiques_s_per_1000_pictures": time_critiques(problem, arguments.seed),
    }
    write_report(arguments.out, report)


def list_workloads(problem: Problem, seed: int) -> dict[str, Callable[[], Workload]]:
    """By name what makes each, so that one at a time is held."""
    ordinary = Pictures(problem.to_pixels(problem.train.pictures), torch.from_numpy(problem.train.labels))
    rows = [np.flatnonzero(problem.train.labels == label)[:CRITIQUED_PER_CLASS] for label in range(len(LABELS))]
    chosen = torch.from_numpy(np.concatenate(rows))
    critiqued = replace(ordinary.take(chosen), masks=torch.from_numpy(problem.train.artefacts)[chosen])

    def digits(build: str, step_count: int) -> Workload:
        few = ordinary.take(torch.arange(_FORWARD_BATCH))
        start = train_net(NETS[build][0], few.pixels, few.labels, seed, epochs=1)
        return Workload(start, ordinary, critiqued, step_count)

    def resnet(step_count: int) -> Workload:
        large = _enlarge(ordinary.take(torch.arange(ENLARGED_COUNT)))
        few = large.take(torch.arange(_FORWARD_BATCH // 8))
        start = train_resnet(few.pixels, few.labels, LABELS, seed, epochs=1)
        return Workload(start, large, _enlarge(critiqued), step_count, divisor=4)

    return {
        "MLP 50-30, 28 x 28": partial(digits, "ross", 45),
        "MLP 512, 28 x 28": partial(digits, "r4", 45),
        "small CNN, 28 x 28": partial(digits, "cnn", 12),
        "small ResNet, 112 x 112": partial(resnet, 5),
    }


def _enlarge(pictures: Pictures) -> Pictures:
    enlarged = [
        None if part is None else part.repeat_interleave(ENLARGEMENT, -2).repeat_interleave(ENLARGEMENT, -1)
        for part in (pictures.pixels, pictures.masks)
    ]
    return Pictures(enlarged[0], pictures.labels, enlarged[1])


def compare_steps(name: str, workload: Workload, repeat_count: int) -> dict[str, Any]:
    """Milliseconds per step of every way, and its ratio to the plain one: median, least and greatest over the repeats."""
    ways = {PLAIN: partial(_descend_plainly, workload)} | {
        way: partial(_fine_tune, workload, recipe) for way, recipe in WAYS.items()
    }
    names = list(ways)
    repeats = []
    for number in range(repeat_count):
        first = number % len(names)
        repeats.append({way: time_step(ways[way](number)) for way in names[first:] + names[:first]})
    told = {
        way: {
            "ms": _spread([1e3 * repeat[way] for repeat in repeats]),
            "ratio": _spread([repeat[way] / repeat[PLAIN] for repeat in repeats]),
        }
        for way in names
    }
    ratios = ", ".join(f"{way} {told[way]['ratio']['median']:.2f}" for way in names[1:])
    sys.stdout.write(f"{name}: plain {told[PLAIN]['ms']['median']:.2f} ms; {ratios}\n")
    sys.stdout.flush()
    return told


def time_step(steps: Iterable[int]) -> float:
    """Seconds of the processor per step; `steps` gives the number of a step when that one is done. What comes before the first is not counted."""
    marks = [(step, time.process_time()) for step in steps]
    (first, started), (last, ended) = marks[0], marks[-1]
    return (ended - started) / (last - first)


def _descend_plainly(workload: Workload, seed: int) -> Iterator[int]:
    recipe, pictures = Recipe(), workload.ordinary
    batch_size = (recipe.ordinary_count + recipe.critiqued_count + recipe.moved_count) // workload.divisor
    generator = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(workload.start).eval()
    optimizer = torch.optim.Adam(model.parameters(), recipe.learning_rates[0])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, workload.step_count)
    for step in range(1, workload.step_count + 1):
        batch = pictures.take(torch.randint(len(pictures), (batch_size,), generator=generator))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(pixel_values=batch.pixels).logits, batch.labels).backward()
        optimizer.step()
        schedule.step()
        yield step


def _fine_tune(workload: Workload, recipe: Recipe, seed: int) -> Iterator[int]:
    counts = ("ordinary_count", "critiqued_count", "moved_count")
    recipe = replace(recipe, **{name: getattr(recipe, name) // workload.divisor for name in counts})
    for snapshot in fine_tune(
        workload.start,
        workload.ordinary,
        workload.critiqued,
        recipe,
        Setting(recipe.learning_rates[0], STRENGTH),
        workload.ordinary.labels.bincount() / len(workload.ordinary),
        workload.step_count,
        seed,
    ):
        yield snapshot.step


def time_critiques(problem: Problem, seed: int) -> dict[str, dict[str, float]]:
    """Seconds per 1,000 pictures of every part of the way from a model to its critiques, over a few repeats with other pictures."""
    pixels, labels = problem.to_pixels(problem.train.pictures), torch.from_numpy(problem.train.labels)
    model = train_net(NETS["ross"][0], pixels, labels, seed, EPOCHS)
    repeats = [_time_parts(problem, model, pixels, np.random.default_rng((seed, number))) for number in range(3)]
    told = {part: _spread([repeat[part] for repeat in repeats]) for part in repeats[0]}
    sys.stdout.write(", ".join(f"{part} {spread['median']:.2f} s" for part, spread in told.items()) + "\n")
    return told


def _time_parts(
    problem: Problem, model: PreTrainedModel, pixels: torch.Tensor, rng: np.random.Generator
) -> dict[str, float]:
    names = [problem.labels[label] for label in problem.train.labels]
    baselines = pixels[rng.choice(len(pixels), BASELINE_COUNT, replace=False)]
    rows = rng.choice(len(pixels), EXPLAINED_COUNT, replace=False)
    with torch.inference_mode():
        targets = model(pixel_values=pixels[rows]).logits.argmax(dim=1).clone()

    def select() -> None:
        with torch.inference_mode():
            logits = torch.cat([model(pixel_values=part).logits for part in pixels.split(_FORWARD_BATCH)])
        select_for_alignment(logits.softmax(dim=1).double().numpy(), names, np.arange(len(names)), CRITIQUED_PER_CLASS)

    def attribute_all() -> np.ndarray:
        parts = zip(pixels[rows].split(_EXPLAIN_BATCH), targets.split(_EXPLAIN_BATCH), strict=True)
        return np.concatenate(
            [attribute(METHODS[DEFAULT_METHOD], model, *part, baselines).maps.numpy() for part in parts]
        )

    options = SegmentationOptions()
    few, judged = (
        explain(problem, model, problem.train.take(rows[part]), 0, options)
        for part in (slice(WARM_UP_COUNT), slice(WARM_UP_COUNT, JUDGED_COUNT))
    )
    maps = attribute_all()
    # Both load the engine; what remains is the critique of as many pictures as the second has more.
    few_s, judged_s = (_time(partial(judge_with_lvlm, problem, some, 1)) for some in (few, judged))
    return {
        "selection": 1000 * _time(select) / len(pixels),
        "attribution": 1000 * _time(attribute_all) / len(rows),
        "segmentation": 1000 * _time(lambda: segment_maps(maps, options)) / len(rows),
        "critique": 1000 * (judged_s - few_s) / (len(judged.shown) - len(few.shown)),
    }


def _time(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        name: float(f"{function(values):.3g}")
        for name, function in (("median", statistics.median), ("least", min), ("greatest", max))
    }


if __name__ == "__main__":
    main()

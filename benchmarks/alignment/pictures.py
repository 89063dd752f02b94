"""Figures of the method, made by its own code: the way of a picture to its mask, what a batch holds, what a decision rests on before and after.

Run: python -m benchmarks.alignment.pictures --out docs/pictures

MNIST must be in `../shared/data`; films and photographs are shown where they are there too. Nets and verdicts are kept in the benchmark's cache folder. No
picture is chosen by how well the method does on it: those of the way are the first training pictures whose largest segment lies on the artefact
and another one does not, those of before and after the first validation pictures, with squares placed anew, that the plain net gets wrong.
"""

from __future__ import annotations

import argparse
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import transformers
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from PIL import Image
from transformers import PreTrainedModel

from benchmarks.alignment.digits import load_digits
from benchmarks.alignment.films import FOLDER as FILMS
from benchmarks.alignment.films import load_films
from benchmarks.alignment.judging import choose_baselines, criticise, explain, judge_with_truth
from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.alignment.run import CACHE
from benchmarks.alignment.stage import Effort, Stage
from benchmarks.alignment.stickers import FOLDER as PHOTOGRAPHS
from benchmarks.alignment.stickers import load_stickers
from benchmarks.decoy.data import MNIST
from benchmarks.nano.scoring import NO_DIGEST
from services.common.vision.critique import Critique, Verdict
from services.common.vision.explanation import Segment
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute
from services.explainer.domain.segmentation.segments import SegmentationOptions
from services.lvlm.domain.panels import render_panels, to_rgb
from services.lvlm.handlers.translating import ExplainedPicture
from services.trainer.domain.evidence import predict
from services.trainer.domain.fine_tuning import BatchDraw, Recipe
from services.trainer.domain.pictures import Pictures

EFFORT = Effort(per_class=30, step_count=1000)
SEED = 0
CANDIDATE_COUNT = 96
"""Training pictures with artefacts that are explained to find one for the way."""
EXAMPLE_COUNT = 3
SIDE_PX = 224
DOTS_PER_INCH = 150
COLOURS = {Verdict.SPURIOUS: "#d55e00", Verdict.CORE: "#009e73", Verdict.UNSURE: "#999999", Verdict.FAILED: "#333333"}
"""Of Okabe and Ito, which the colour-blind tell apart."""
FOR_AND_AGAINST = ListedColormap(["#4f7dff", "#ff4040"])
OUTLINE = COLOURS[Verdict.SPURIOUS]
LINE_CHARACTERS = 112


@dataclass(frozen=True)
class Way:
    """One picture with its map (height, width), its segments and what was said of them."""

    name: str
    picture: np.ndarray
    evidence: np.ndarray
    segments: tuple[Segment, ...]
    decided: str
    rule: str
    critique: Critique

    @property
    def mask(self) -> np.ndarray:
        """What must not matter, bool (height, width)."""
        is_spurious = [one.verdict is Verdict.SPURIOUS for one in self.critique.verdicts]
        masks = [segment.mask for segment, chosen in zip(self.segments, is_spurious, strict=True) if chosen]
        return np.any([np.zeros_like(self.segments[0].mask), *masks], axis=0)


def main() -> None:
    """Draw all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if not MNIST.is_file():
        parser.error("expected MNIST in ../shared/data/mnist.npz")
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    arguments.out.mkdir(parents=True, exist_ok=True)
    digits = _open(load_digits("ross", SEED))
    others = {"film": (FILMS, load_films), "photograph": (PHOTOGRAPHS, load_stickers)}
    draw_way(follow("digit", digits), arguments.out / "way-digit.png")
    for name, (folder, load) in others.items():
        if folder.is_dir():
            draw_way(follow(name, _open(load(SEED))), arguments.out / f"way-{name}.png")
    draw_batch(digits, arguments.out / "batch.png")
    draw_before_and_after(digits, arguments.out / "before-and-after.png")


def _open(problem: Problem) -> Stage:
    cache = CACHE / problem.name / str(SEED)
    cache.mkdir(parents=True, exist_ok=True)
    return Stage(problem, EFFORT, SEED, cache, threads=1)


def follow(name: str, stage: Stage) -> Way:
    """The first training picture whose largest segment is, by the truth, on the artefact, and another one is not."""
    problem = stage.problem
    rows = np.flatnonzero(problem.train.artefacts.any(axis=(1, 2)))[:CANDIDATE_COUNT]
    explained = explain(problem, stage.plain, problem.train.take(rows), SEED, SegmentationOptions())
    truth = judge_with_truth(explained)
    rests_on_artefact = truth[:, 1] == Verdict.SPURIOUS.value
    row = int(np.flatnonzero(rests_on_artefact & (truth == Verdict.CORE.value).any(axis=1))[0])
    shown = explained.shown.take(np.array([row]))
    numbers = explained.numbers[row]
    segments = tuple(Segment(number, 0.0, numbers == number) for number in range(1, numbers.max() + 1))
    decided, true = (problem.labels[label] for label in (explained.decided[row], shown.labels[0]))
    picture = shown.pictures[0]
    rule = problem.specification.rule_for(true)
    return Way(
        name,
        picture,
        map_evidence(stage, stage.plain, shown)[0],
        segments,
        decided,
        f"The expert on {true}: what should matter is {rule.should_matter}; what should not is {rule.should_not_matter}.",
        criticise(problem, [ExplainedPicture(name, NO_DIGEST, picture, decided, true, segments)], threads=1)[0],
    )


def map_evidence(stage: Stage, model: PreTrainedModel, shown: LabelledPictures) -> np.ndarray:
    """What speaks for and against each picture's decision, (n, height, width), signed; with the baselines of the benchmark."""
    pixels, baselines = stage.problem.to_pixels(shown.pictures), choose_baselines(stage.problem, stage.seed)
    return attribute(METHODS[DEFAULT_METHOD], model, pixels, predict(model, pixels).clone(), baselines).maps.numpy()


def draw_way(way: Way, out: Path) -> None:
    """Picture, evidence, segments, verdicts and mask, with what the expert and the critic say below."""
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots(1, 5)
    masks = [segment.mask for segment in way.segments]
    _show(axes[0], way.picture)
    _show_evidence(axes[1], way.picture, way.evidence)
    _show(axes[2], np.asarray(render_panels(way.picture, masks, ["overlay"], SIDE_PX)[0]))
    _show(axes[3], _dim(way.picture))
    for mask, judged in zip(masks, way.critique.verdicts, strict=True):
        _fill(axes[3], mask, COLOURS[judged.verdict])
    _show(axes[4], _dim(way.picture))
    _fill(axes[4], way.mask, OUTLINE)
    _number(axes[2], way.segments)
    for axis, title in zip(axes, (way.name, "evidence", "segments", "verdicts", "mask"), strict=True):
        axis.set_title(title, fontsize=12)
    axes[0].set_xlabel(f"decided: {way.decided}", fontsize=11)
    lines = (way.rule, f"nano: {way.critique.reasons}")
    told = [textwrap.shorten(line, 2 * LINE_CHARACTERS, placeholder=" …") for line in lines]
    figure.supxlabel("\n".join(textwrap.fill(line, LINE_CHARACTERS) for line in told), fontsize=10.5, x=0.01, ha="left")
    figure.legend(
        handles=[
            Patch(color=COLOURS[verdict], label=verdict.value)
            for verdict in Verdict
            if verdict in {judged.verdict for judged in way.critique.verdicts}
        ],
        loc="outside upper right",
        ncols=len(Verdict),
        frameon=False,
        fontsize=11,
    )
    _save(figure, out)


def draw_batch(stage: Stage, out: Path) -> None:
    """Pictures of batches by their kind, with outlines around what is masked or was changed."""
    critiqued = stage.critique()
    pictures = stage.pictures(critiqued.explained.shown, critiqued.explained.masks(critiqued.verdicts))
    recipe = Recipe()
    # From the same draws, once with all regions as they are and once with all in another brightness.
    as_is, redrawn = (
        BatchDraw(stage.train, pictures, replace(recipe, redrawn_ratio=ratio), torch.Generator().manual_seed(SEED))()
        for ratio in (0.0, 1.0)
    )
    first, masked = recipe.ordinary_count, as_is[1]
    free = as_is[0]
    groups = {
        "ordinary": [(free, number, None) for number in range(EXAMPLE_COUNT)],
        "critiqued,\nunder the penalty": [(masked, number, masked) for number in range(EXAMPLE_COUNT)],
        "region moved onto\na training picture": [
            (free, first + number, stage.train) for number in range(EXAMPLE_COUNT)
        ],
        "region in another\nbrightness": [(redrawn[0], first + number, stage.train) for number in range(EXAMPLE_COUNT)],
        "region filled\nfrom another class": [
            (free, len(free) - 1 - number, pictures) for number in range(EXAMPLE_COUNT)
        ],
    }
    figure = Figure(figsize=(9, 2.05 * EXAMPLE_COUNT + 0.5), layout="constrained")
    axes = figure.subplots(EXAMPLE_COUNT, len(groups))
    for column, (title, examples) in zip(axes.T, groups.items(), strict=True):
        column[0].set_title(title, fontsize=12)
        for axis, (batch, number, sources) in zip(column, examples, strict=True):
            _show(axis, _to_grey(batch.pixels[number]))
            axis.set_xlabel(f"label {batch.labels[number]}", fontsize=11)
            if sources is not None:
                outlined = masked.masks[number] if sources is masked else find_changed(batch, number, sources)
                _outline(axis, outlined.numpy())
    _save(figure, out)


def find_changed(batch: Pictures, number: int, sources: Pictures) -> torch.Tensor:
    """Where a picture of `batch` differs from that of `sources` with its label that it was made from, bool (height, width)."""
    pixels = sources.pixels[sources.labels == batch.labels[number]]
    differs = (pixels != batch.pixels[number]).any(dim=1)
    return differs[differs.flatten(1).sum(dim=1).argmin()]


def draw_before_and_after(stage: Stage, out: Path) -> None:
    """What speaks for and against the decision of the plain and of the aligned net, on the same pictures."""
    aligned = stage.align(Recipe(), lambda critiqued: critiqued.explained.masks(critiqued.verdicts)).model
    source = stage.problem.group_labelled
    decided = predict(stage.plain, stage.problem.to_pixels(source.pictures)).numpy()
    shown = source.take(np.flatnonzero(decided != source.labels)[:EXAMPLE_COUNT])
    pixels = stage.problem.to_pixels(shown.pictures)
    figure = Figure(figsize=(6.6, 2.3 * EXAMPLE_COUNT + 0.3), layout="constrained")
    axes = figure.subplots(EXAMPLE_COUNT, 3)
    for axis, picture, label in zip(axes[:, 0], shown.pictures, shown.labels, strict=True):
        _show(axis, picture)
        axis.set_xlabel(f"a {label}", fontsize=12)
    for column, model in ((axes[:, 1], stage.plain), (axes[:, 2], aligned)):
        maps, decisions = map_evidence(stage, model, shown), predict(model, pixels).numpy()
        for axis, picture, evidence, decision, label in zip(
            column, shown.pictures, maps, decisions, shown.labels, strict=True
        ):
            _show_evidence(axis, picture, evidence)
            is_right = decision == label
            colour = COLOURS[Verdict.CORE if is_right else Verdict.SPURIOUS]
            told = f"decides {decision}: {'right' if is_right else 'wrong'}"
            axis.set_xlabel(told, fontsize=12, color=colour)
    for axis, title in zip(axes[0], ("picture", "before", "after"), strict=True):
        axis.set_title(title, fontsize=13)
    _save(figure, out)


def _show(axis: Axes, picture: np.ndarray) -> None:
    axis.imshow(to_rgb(picture))
    axis.set_xticks([])
    axis.set_yticks([])


def _show_evidence(axis: Axes, picture: np.ndarray, evidence: np.ndarray) -> None:
    """Red speaks for the decision, blue against it, over the darkened picture."""
    _show(axis, _dim(picture))
    # The 99th percentile sets the scale: a single bright pixel must not hide the rest.
    strength = np.clip(evidence / np.quantile(np.abs(evidence), 0.99), -1, 1)
    axis.imshow(strength, cmap=FOR_AND_AGAINST, vmin=-1, vmax=1, alpha=np.abs(strength))


def _dim(picture: np.ndarray) -> np.ndarray:
    return (0.45 * picture).astype(np.uint8)


def _fill(axis: Axes, mask: np.ndarray, colour: str) -> None:
    solid = np.zeros((*mask.shape, 4))
    solid[..., :3] = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    solid[..., 3] = 0.85 * mask
    axis.imshow(solid)


def _outline(axis: Axes, mask: np.ndarray) -> None:
    """Along the edges of the pixels."""
    finer = np.pad(mask, 1).repeat(8, axis=0).repeat(8, axis=1)
    height, width = mask.shape
    extent = (-1.5, width + 0.5, height + 0.5, -1.5)
    axis.contour(finer, levels=[0.5], colors=OUTLINE, linewidths=2, extent=extent, origin="upper")
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _number(axis: Axes, segments: Sequence[Segment]) -> None:
    """Each segment's number on a panel of `SIDE_PX`, at its pixel that is nearest to its centre."""
    for segment in segments:
        places = np.argwhere(segment.mask)
        nearest = places[np.square(places - places.mean(axis=0)).sum(axis=1).argmin()]
        y, x = (nearest + 0.5) * SIDE_PX / len(segment.mask)
        axis.text(
            x,
            y,
            str(segment.index),
            fontsize=11,
            fontweight="bold",
            color="white",
            ha="center",
            va="center_baseline",
            path_effects=[withStroke(linewidth=2.5, foreground="black")],
        )


def _to_grey(pixels: torch.Tensor) -> np.ndarray:
    return (255 * pixels[0]).round().to(torch.uint8).numpy()


def _save(figure: Figure, out: Path) -> None:
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DOTS_PER_INCH)
    # A third of the bytes. Dithering would put specks of colour on grey pictures.
    Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


if __name__ == "__main__":
    main()

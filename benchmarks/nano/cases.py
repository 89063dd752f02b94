"""Pictures with segments whose truth is known: drawn ones, and real digits as the loop itself explains them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.decoy.data import MNIST, DecoyDigits, load_splits
from benchmarks.decoy.shortcut_model import EPOCHS, choose_baselines, to_pixels, train_shortcut_model
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.lvlm.nano import things
from services.lvlm.nano.scenes import INK_RATIO, draw_scene
from services.lvlm.nano.segments import draw_segments, name_segments
from services.lvlm.nano.sentences import Field, Specification, draw_specification

HAND_WRITTEN = Path(__file__).parent / "hand_written.yaml"
CODES = {name.split()[-1]: code for code, name in things.WITH_ARTICLE.items()}


@dataclass(frozen=True)
class Case:
    """One picture, its segments and what an expert says of its class.

    Shapes: picture (height, width) uint8; numbers (height, width) uint8, 0 = none, segments start at 1. `covered` is the truth: the things
    that each segment covers, the larger first.
    """

    picture: np.ndarray
    numbers: np.ndarray
    covered: tuple[tuple[int, ...], ...]
    specification: Specification


Draw = Callable[[np.random.Generator, int], list[Case]]


def list_sets(seed: int) -> dict[str, Draw]:
    """The sets by name, each a function of a generator and a count. MNIST's are there when its file is."""
    sets: dict[str, Draw] = {
        "drawn, as in training": partial(_draw_scenes, "train"),
        "drawn, held out": partial(_draw_scenes, "held_out"),
    }
    sources = {"digits": "scikit-learn's digits", "mnist": "MNIST"}
    for source, title in sources.items():
        if source == "mnist" and not MNIST.is_file():
            continue
        sets[f"{title}, drawn evidence"] = partial(_draw_on_real, source, seed)
        sets[f"{title}, the loop's evidence"] = partial(_explain_real, source, seed, is_by_hand=False)
        sets[f"{title}, the loop's evidence, sentences by hand"] = partial(_explain_real, source, seed, is_by_hand=True)
    return sets


def _draw_scenes(split: str, rng: np.random.Generator, count: int) -> list[Case]:
    cases = []
    for _ in range(count):
        scene = draw_scene(rng, split)
        segments = draw_segments(rng, scene.cover)
        written = draw_specification(rng, split, scene.seen)
        cases.append(Case(scene.picture, segments.numbers, segments.covered, written))
    return cases


def _draw_on_real(source: str, seed: int, rng: np.random.Generator, count: int) -> list[Case]:
    train = load_splits(source, MNIST, seed).train
    cases = []
    for row in rng.choice(len(train.labels), count, replace=False):
        segments = draw_segments(rng, _cover(train, row))
        written = draw_specification(rng, "held_out", [things.DIGIT, things.SQUARE])
        cases.append(Case(train.pictures[row], segments.numbers, segments.covered, written))
    return cases


def _explain_real(source: str, seed: int, rng: np.random.Generator, count: int, is_by_hand: bool) -> list[Case]:
    """Segments as the explainer makes them, of a model that learned the square."""
    train = load_splits(source, MNIST, seed).train
    model = train_shortcut_model(train, seed, EPOCHS[source])
    rows = rng.choice(len(train.labels), count, replace=False)
    pixels = to_pixels(train.pictures[rows])
    with torch.inference_mode():
        targets = model(pixel_values=pixels).logits.argmax(dim=1)
    maps = attribute(
        METHODS[DEFAULT_METHOD], model, pixels, targets.clone(), choose_baselines(train, seed)
    ).maps.numpy()
    cases = []
    for row, evidence, segments in zip(rows, maps, segment_maps(maps, SegmentationOptions()), strict=True):
        numbers = np.zeros(evidence.shape, dtype=np.uint8)
        for segment in segments:
            numbers[segment.mask] = segment.index
        positive = np.maximum(evidence, 0).astype(np.float64)
        covered = name_segments(numbers, positive / positive.sum(), _cover(train, row))
        cases.append(Case(train.pictures[row], numbers, covered, _write(rng, is_by_hand)))
    return [case for case in cases if case.covered]


def _write(rng: np.random.Generator, is_by_hand: bool) -> Specification:
    if not is_by_hand:
        return draw_specification(rng, "held_out", [things.DIGIT, things.SQUARE])
    written = list(read_hand_written())
    return written[rng.integers(len(written))]


def read_hand_written() -> Iterator[Specification]:
    """The specifications written by a person."""
    for entry in yaml.safe_load(HAND_WRITTEN.read_text(encoding="utf-8")):
        yield Specification(
            "-",
            Field(entry["should_matter"], _codes(entry["matters"]), frozenset()),
            Field(entry["should_not_matter"], _codes(entry["must_not_matter"]), frozenset()),
        )


def _codes(names: Sequence[str]) -> frozenset[int]:
    return frozenset(CODES[name] for name in names)


def _cover(digits: DecoyDigits, row: int) -> np.ndarray:
    """What covers each pixel of a decoy digit, codes of `things`."""
    cover = np.where(digits.pictures[row] > INK_RATIO * 255, things.DIGIT, things.BACKGROUND).astype(np.uint8)
    cover[digits.squares[row]] = things.SQUARE
    return cover

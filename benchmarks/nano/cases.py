"""Pictures with segments whose truth is known: drawn ones, real digits as the loop itself explains them, real films and photographs with marks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_sample_images

from benchmarks.decoy.data import MNIST, DecoyDigits, load_splits
from benchmarks.decoy.shortcut_model import EPOCHS, choose_baselines, to_pixels, train_shortcut_model
from benchmarks.provenance import ROOT
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS, attribute
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps
from services.lvlm.nano import things
from services.lvlm.nano.segments import draw_segments, measure_shares, name_segments
from services.lvlm.nano.sentences import EMPTY, Field, Specification, Writer, draw_specification
from services.lvlm.nano.worlds import WORLDS, World, open_world
from services.lvlm.nano.worlds.digits import INK_RATIO
from services.lvlm.nano.worlds.film_marks import paste_marks
from services.lvlm.nano.worlds.film_photographs import FilmPhotographs
from services.lvlm.nano.worlds.films import MARK_STYLES
from services.lvlm.nano.worlds.scene import Scene
from services.lvlm.nano.worlds.skin_photographs import SkinPhotographs

HAND_WRITTEN = Path(__file__).parent / "hand_written.yaml"
PICTURES = ROOT.parent / "shared" / "data"
UNSEEN_FILMS = ("test",)  # of the data set; `nano` was trained on others
UNSEEN_SKIN = ("validation",)  # of the official splits, for the same reason; the third one shows no sticker
CODES = {name.split()[-1]: code for code, name in things.WITH_ARTICLE.items()}


@dataclass(frozen=True)
class Case:
    """One picture, what covers it, its segments and what an expert says of its class.

    Shapes: picture (height, width) or (height, width, 3) uint8; cover (height, width) uint8, codes of `things`; numbers (height, width)
    uint8, 0 = none, segments start at 1. `covered` is the truth: the things that each segment covers, the larger first.
    """

    picture: np.ndarray
    cover: np.ndarray
    numbers: np.ndarray
    covered: tuple[tuple[int, ...], ...]
    specification: Specification


Draw = Callable[[np.random.Generator, int], list[Case]]
Write = Callable[[np.random.Generator, Scene], Specification]


def list_sets(seed: int) -> dict[str, Draw]:
    """The sets by name, each a function of a generator and a count. Those on real data are there when their files are."""
    sets: dict[str, Draw] = {}
    for name, world in WORLDS.items():
        for split, title in (("train", "as in training"), ("held_out", "held out")):
            draw = open_world(name)
            sets[f"{name}: drawn, {title}"] = partial(
                _draw_cases, partial(_draw_scene, draw, split), partial(_write, split, world)
            )
        by_hand = partial(_choose_hand_written, name)
        if name != "digits":
            sets[f"{name}: drawn, held out, sentences by hand"] = partial(
                _draw_cases, partial(_draw_scene, open_world(name), "held_out"), by_hand
            )
    for source, title in {"digits": "scikit-learn's digits", "mnist": "MNIST"}.items():
        if source == "mnist" and not MNIST.is_file():
            continue
        written = partial(_write, "held_out", WORLDS["digits"])
        sets[f"{title}, drawn evidence"] = partial(_draw_cases, _RealDigits(source, seed), written)
        sets[f"{title}, the loop's evidence"] = partial(_explain_real, source, seed, written)
        sets[f"{title}, the loop's evidence, sentences by hand"] = partial(
            _explain_real, source, seed, partial(_choose_hand_written, "digits")
        )
    sets["outside: natural pictures"] = partial(_draw_cases, _NaturalPictures(), partial(_write_any, "held_out"))
    films = FilmPhotographs.open(PICTURES / "chest_xray", UNSEEN_FILMS)
    if films:
        sets["real films with drawn marks"] = partial(
            _draw_cases, partial(_mark_film, films), partial(_write_against_marks, WORLDS["films"])
        )
    photographs = SkinPhotographs.open(PICTURES / "isic2017", UNSEEN_SKIN)
    if photographs:
        sets["real photographs with stickers"] = partial(
            _draw_cases,
            partial(_photograph, replace(photographs, plain=())),
            partial(_write_against_marks, WORLDS["skin"]),
        )
    return sets


def _draw_cases(
    draw: Callable[[np.random.Generator], Scene], write: Write, rng: np.random.Generator, count: int
) -> list[Case]:
    cases = []
    for _ in range(count):
        scene = draw(rng)
        segments = draw_segments(rng, scene.cover)
        cases.append(Case(scene.picture, scene.cover, segments.numbers, segments.covered, write(rng, scene)))
    return cases


def _draw_scene(draw: Callable[[np.random.Generator, str], Scene], split: str, rng: np.random.Generator) -> Scene:
    return draw(rng, split)


def _write(split: str, world: World, rng: np.random.Generator, scene: Scene) -> Specification:
    return draw_specification(rng, split, scene.seen, world)


def _write_against_marks(world: World, rng: np.random.Generator, scene: Scene) -> Specification:
    """One sentence against the marks: all else is then allowed, so the verdicts' truth needs no truth of lungs and lesions."""
    marks = [code for code in scene.seen if code in world.marks] or list(world.marks)
    writer = Writer(rng, "held_out", world)
    against = writer.write([int(rng.choice(marks))], is_for=False)
    return Specification(writer.draw_class_name(), Field(EMPTY, frozenset(), frozenset()), against)


class _RealDigits:
    """Draws real digits with decoys."""

    def __init__(self, source: str, seed: int) -> None:
        self._train = load_splits(source, MNIST, seed).train

    def __call__(self, rng: np.random.Generator) -> Scene:
        row = int(rng.integers(len(self._train.labels)))
        return Scene(self._train.pictures[row], _cover(self._train, row))


class _NaturalPictures:
    """Draws windows of the two photographs that ship with scikit-learn: nothing in them is known."""

    def __init__(self) -> None:
        self._photographs = load_sample_images().images  # (height, width, 3) uint8

    def __call__(self, rng: np.random.Generator) -> Scene:
        photograph = self._photographs[rng.integers(len(self._photographs))]
        side = int(rng.integers(112, min(photograph.shape[:2]) + 1))
        top, left = (int(rng.integers(photograph.shape[axis] - side + 1)) for axis in range(2))
        window = Image.fromarray(photograph[top : top + side, left : left + side])
        picture = np.asarray(window.resize((112, 112), Image.Resampling.BOX))
        return Scene(picture, np.full((112, 112), things.UNKNOWN, dtype=np.uint8))


def _write_any(split: str, rng: np.random.Generator, scene: Scene) -> Specification:
    world = list(WORLDS.values())[rng.integers(len(WORLDS))]
    return draw_specification(rng, split, [world.subject, world.marks[0]], world)


def _mark_film(films: FilmPhotographs, rng: np.random.Generator) -> Scene:
    film, cover = films.draw(rng)
    film = film.astype(np.float32)
    paste_marks(rng, film, cover, MARK_STYLES["held_out"])
    return Scene(film.clip(0, 255).astype(np.uint8), cover)


def _photograph(photographs: SkinPhotographs, rng: np.random.Generator) -> Scene:
    return Scene(*photographs.draw(rng))


def _explain_real(source: str, seed: int, write: Write, rng: np.random.Generator, count: int) -> list[Case]:
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
        cover = _cover(train, row)
        written = write(rng, Scene(train.pictures[row], cover))
        cases.append(Case(train.pictures[row], cover, numbers, name_segments(measure_shares(numbers, cover)), written))
    return [case for case in cases if case.covered]


def _choose_hand_written(world: str, rng: np.random.Generator, scene: Scene) -> Specification:
    written = list(read_hand_written(world))
    return written[rng.integers(len(written))]


def read_hand_written(world: str) -> Iterator[Specification]:
    """The specifications of a world that were written by hand."""
    for entry in yaml.safe_load(HAND_WRITTEN.read_text(encoding="utf-8"))[world]:
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

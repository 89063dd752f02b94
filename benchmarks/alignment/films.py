"""Chest films with a letter: in training every pneumonia carries an "R" and no normal film does, at test half of each class.

The letter is of a font that `nano` has not learned from. Most films of both classes bear a smaller letter of their own, which is not in the
truth. Accuracy of the plain net in `group_labelled`, seeds 100 and 101: normal 99.3 and 98.5 % without a tag, 5.2 and 0.7 % with one;
pneumonia 13.9 and 8.9 % without, 99.7 and 100 % with; on validation pictures 99.8 and 99.7 %.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from benchmarks.alignment.problem import LabelledPictures, Problem
from benchmarks.alignment.small_resnet import train_resnet
from benchmarks.provenance import ROOT
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.lvlm.nano.worlds.film_marks import write_text
from services.lvlm.nano.worlds.films import SIDE_PX

FOLDER = ROOT.parent / "shared" / "data" / "chest_xray"
LABELS = ("normal", "pneumonia")
NORMAL, PNEUMONIA = range(2)
GROUPS = tuple(f"{label}, {tag}" for label in LABELS for tag in ("no tag", "tag"))
SPECIFICATION = ClassSpecification(
    "Tell pneumonia from normal chest films of children.",
    (
        ClassRule("normal", "clear lung fields", "the letter at the edge of the film"),
        ClassRule("pneumonia", "opacity in the lungs", "the side marker"),
    ),
)
VALIDATION_RATIO = 0.2
EPOCHS = 6
FONT = "font_lato/files/Lato-Bold.ttf"
LETTER_PX = (9, 12)
"""Height of the letter, least and most."""
INSET_PX = (2, 10)
"""From the upper edge and from the left or right one, least and most."""
GREYS = (225, 255)


def load_films(seed: int) -> Problem:
    """5,824 films, 112×112 grey, by image and not by patient: the published test part, the rest split 4 to 1 in each class by `seed`.

    Raises
    ------
    FileNotFoundError
        When the films are not there.
    """
    known, test = _read_films()
    rng = np.random.default_rng(seed)
    train, validation = (known.take(rows) for rows in split_rows(known.labels, rng))
    return Problem(
        name="films",
        labels=LABELS,
        group_names=GROUPS,
        train=_tag_class(train, PNEUMONIA, rng),
        validation=_tag_class(validation, PNEUMONIA, rng),
        test=_tag_halves(test, rng),
        group_labelled=_tag_halves(validation, rng),
        specification=SPECIFICATION,
        to_pixels=to_pixels,
        train_shortcut=_train,
    )


def split_rows(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to validate on, in the same share of each class. Shapes: labels (n,)."""
    is_held_out = np.zeros(len(labels), dtype=bool)
    for label in range(len(LABELS)):
        rows = np.flatnonzero(labels == label)
        is_held_out[rng.choice(rows, round(VALIDATION_RATIO * len(rows)), replace=False)] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def tag_films(shown: LabelledPictures, rows: np.ndarray, rng: np.random.Generator) -> LabelledPictures:
    """The same films with an "R" in an upper corner of each of `rows`; every pixel that it touches counts as artefact."""
    pictures, artefacts = shown.pictures.copy(), shown.artefacts.copy()
    for row in rows:
        ink = write_text("R", FONT, int(rng.integers(*LETTER_PX, endpoint=True)))
        window = _place(ink.shape, rng)
        grey = rng.integers(*GREYS, endpoint=True)
        pictures[row][window] = np.rint(pictures[row][window] * (1 - ink) + grey * ink)
        artefacts[row][window] = ink > 0
    groups = 2 * shown.labels + artefacts.any(axis=(1, 2))
    return replace(shown, pictures=pictures, artefacts=artefacts, groups=groups)


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """(n, 1, 112, 112) float32 in [0, 1]."""
    return torch.from_numpy(pictures.astype(np.float32) / 255)[:, None]


def _train(train: LabelledPictures, seed: int) -> PreTrainedModel:
    return train_resnet(to_pixels(train.pictures), torch.from_numpy(train.labels), LABELS, seed, EPOCHS)


def _tag_class(shown: LabelledPictures, label: int, rng: np.random.Generator) -> LabelledPictures:
    return tag_films(shown, np.flatnonzero(shown.labels == label), rng)


def _tag_halves(shown: LabelledPictures, rng: np.random.Generator) -> LabelledPictures:
    """Tag a random half of each class."""
    classes = (np.flatnonzero(shown.labels == label) for label in range(len(LABELS)))
    halves = [rng.choice(rows, len(rows) // 2, replace=False) for rows in classes]
    return tag_films(shown, np.concatenate(halves), rng)


def _place(shape: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
    top, inset = rng.integers(*INSET_PX, 2, endpoint=True)
    left = rng.choice((inset, SIDE_PX - inset - shape[1]))
    return np.s_[top : top + shape[0], left : left + shape[1]]


@cache
def _read_films() -> tuple[LabelledPictures, LabelledPictures]:
    """The films of the published training and validation parts, and those of the test part.

    Thirty-two files are copies of others, some in another part. Of such, one in training comes before one in validation, and that before one in test.
    """
    found = {
        path.read_bytes(): (path, part == "test", label)
        for part in ("test", "val", "train")
        for label, name in enumerate(("NORMAL", "PNEUMONIA"))
        for path in sorted((FOLDER / part / name).iterdir())
    }
    paths, in_test, labels = zip(*found.values(), strict=True)
    pictures = np.stack([_read(path) for path in paths])
    films = LabelledPictures(pictures, np.array(labels), np.zeros(pictures.shape, dtype=bool), 2 * np.array(labels))
    return films.take(np.flatnonzero(np.logical_not(in_test))), films.take(np.flatnonzero(in_test))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert("L").resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))

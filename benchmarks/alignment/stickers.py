"""ISIC 2017 with coloured stickers: in training only benign photographs carry one, at test half of the melanomas do.

By nature 6 % of the benign photographs carry a sticker, too few for the net to lean on. So more are pasted on, until 30 % do. On
`group_labelled`, never on test, 39 melanomas each way, the plain net was right about this share of melanomas:

    benign with a sticker   seed   without   with a sticker   sticker painted over in the picture's median colour
    0.06, as it is           100      0.46             0.49                                                  0.59
    0.06, as it is           101      0.72             0.46                                                  0.56
    0.30                     100      0.64             0.10                                                  0.80
    0.30                     101      0.87             0.05                                                  0.77

The last column tells apart what the sticker draws away and what it hides: at 0.30 it is the sticker, at 0.06 hardly.

Limits: masks are semi-automatic. About ten pairs of different photographs look like one lesion and may fall in two parts. `nano` was
trained on the official training split with these masks, and stickers are pasted by its own code, so its verdicts here are those of a
critic that knows such pictures.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
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
from services.lvlm.nano.worlds.skin_marks import COLUMNS, ROWS, SIDE_PX
from services.lvlm.nano.worlds.skin_photographs import SkinPhotographs

FOLDER = ROOT.parent / "shared" / "data" / "isic2017"
LABELS = ("benign", "melanoma")
BENIGN, MELANOMA = range(2)
GROUPS = tuple(f"{label}, {sticker}" for label in LABELS for sticker in ("no sticker", "sticker"))
SPECIFICATION = ClassSpecification(
    "Tell melanoma from benign lesions in dermoscopic photographs.",
    (
        ClassRule("benign", "the lesion", "the coloured sticker at the edge"),
        ClassRule("melanoma", "the lesion itself", "the coloured patch beside it"),
    ),
)
STICKER_RATIO = 0.3
"""Of benign pictures in training and validation. By nature it is 0.064 (143 of 2,223)."""
TRAIN_RATIO, VALIDATION_RATIO = 0.60, 0.15
EPOCHS = 6
"""With 10 the net learns by heart: right about 0.33 of `group_labelled` melanomas without a sticker, not 0.64 (seed 100)."""
LEAST_RATIO = 0.02
"""Of the picture that a pasted sticker covers; a smaller one is drawn anew."""
MOST_CENTRE_RATIO = 0.1
"""Of the middle, where the lesion lies, that a pasted sticker may cover; else it is drawn anew."""
_CENTRE = np.hypot(ROWS - (SIDE_PX - 1) / 2, COLUMNS - (SIDE_PX - 1) / 2) < 0.27 * SIDE_PX


@dataclass(frozen=True)
class Split:
    """Row numbers of the parts; together every row once."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def load_stickers(seed: int) -> Problem:
    """All 2,744 photographs, 112×112 RGB, split by `seed`: 60 % training, 15 % validation, 25 % test.

    At test a sticker of the test part's photographs is pasted on half of the melanomas without one. Before, stickers of the training
    part's are pasted on benign training and validation pictures until `STICKER_RATIO` of them carry one. Melanomas never do there.

    Raises
    ------
    FileNotFoundError
        When the photographs are not there.
    """
    photographs = _read_photographs()
    split = split_rows(photographs.labels, _has_sticker(photographs), seed)
    rng = np.random.default_rng(seed)
    seen, unseen = _cut_outs(split.train), _cut_outs(split.test)
    train, validation, test = (photographs.take(rows) for rows in (split.train, split.validation, split.test))
    everywhere = _paste_on_half(validation, MELANOMA, seen, rng)
    return Problem(
        name="stickers",
        labels=LABELS,
        group_names=GROUPS,
        train=_enrich(train, seen, rng),
        validation=_enrich(validation, seen, rng),
        test=_paste_on_half(test, MELANOMA, unseen, rng),
        group_labelled=_paste_on_half(everywhere, BENIGN, seen, rng),
        specification=SPECIFICATION,
        to_pixels=to_pixels,
        train_shortcut=_train,
    )


def split_rows(labels: np.ndarray, has_sticker: np.ndarray, seed: int) -> Split:
    """Split each class, with and without a sticker, in the same shares; melanomas with one all go to test. Shapes: (n,) both."""
    rng = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[], [], []]
    for group in range(len(GROUPS)):
        rows = rng.permutation(np.flatnonzero(_group(labels, has_sticker) == group))
        ratios = (0, 0) if GROUPS[group] == "melanoma, sticker" else (TRAIN_RATIO, TRAIN_RATIO + VALIDATION_RATIO)
        cuts = [round(ratio * len(rows)) for ratio in ratios]
        for part, some in zip(parts, np.split(rows, cuts), strict=True):
            part.append(some)
    return Split(*(np.sort(np.concatenate(part)) for part in parts))


def paste_stickers(
    shown: LabelledPictures, rows: np.ndarray, cut_outs: SkinPhotographs, rng: np.random.Generator
) -> LabelledPictures:
    """The same pictures with a sticker of `cut_outs` on each of `rows`; every pixel that it touches counts as artefact."""
    pictures, artefacts = shown.pictures.copy(), shown.artefacts.copy()
    for row in rows:
        paint, share = _draw_sticker(cut_outs, rng)
        pictures[row] = np.rint(pictures[row] + (paint - pictures[row]) * share[..., None])
        artefacts[row] |= share > 0
    return _with_groups(replace(shown, pictures=pictures, artefacts=artefacts))


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    """(n, 3, 112, 112) float32 in [0, 1]."""
    return torch.from_numpy(pictures.transpose(0, 3, 1, 2).astype(np.float32) / 255)


def _train(train: LabelledPictures, seed: int) -> PreTrainedModel:
    return train_resnet(to_pixels(train.pictures), torch.from_numpy(train.labels), LABELS, seed, EPOCHS)


def _enrich(shown: LabelledPictures, cut_outs: SkinPhotographs, rng: np.random.Generator) -> LabelledPictures:
    """Paste until `STICKER_RATIO` of the benign pictures carry a sticker."""
    is_benign, has_sticker = shown.labels == BENIGN, _has_sticker(shown)
    missing = round(STICKER_RATIO * is_benign.sum()) - (is_benign & has_sticker).sum()
    return paste_stickers(
        shown, rng.choice(np.flatnonzero(is_benign & ~has_sticker), missing, replace=False), cut_outs, rng
    )


def _paste_on_half(
    shown: LabelledPictures, label: int, cut_outs: SkinPhotographs, rng: np.random.Generator
) -> LabelledPictures:
    """Paste on a random half of that class's pictures without a sticker."""
    rows = np.flatnonzero((shown.labels == label) & ~_has_sticker(shown))
    return paste_stickers(shown, rng.choice(rows, len(rows) // 2, replace=False), cut_outs, rng)


def _draw_sticker(cut_outs: SkinPhotographs, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    while True:
        paint, share = cut_outs.draw_sticker(rng)
        is_covered = share > 0
        if is_covered.mean() >= LEAST_RATIO and is_covered[_CENTRE].mean() <= MOST_CENTRE_RATIO:
            return paint, share


def _cut_outs(rows: np.ndarray) -> SkinPhotographs:
    """The stickers of these photographs, which `nano`'s own world of skin cuts out, turns, scales and feathers."""
    index = _read_index()
    masked = ((FOLDER / index[row]["file_name"], FOLDER / index[row]["sticker_mask"]) for row in rows)
    return SkinPhotographs((), tuple(pair for pair in masked if pair[1] != FOLDER))


@cache
def _read_photographs() -> LabelledPictures:
    index = _read_index()
    pictures = np.stack([_read(FOLDER / row["file_name"], "RGB") for row in index])
    artefacts = np.zeros(pictures.shape[:3], dtype=bool)
    for number, row in enumerate(index):
        if row["sticker_mask"]:
            artefacts[number] = _read(FOLDER / row["sticker_mask"], "L") > 127
    labels = np.array([LABELS.index(row["label"]) for row in index])
    return _with_groups(LabelledPictures(pictures, labels, artefacts, np.zeros_like(labels)))


@cache
def _read_index() -> tuple[dict[str, str], ...]:
    """A row per photograph. Six were published twice, four of them in two of the official splits, and are kept once."""
    with (FOLDER / "metadata.csv").open(newline="") as lines:
        rows = {(FOLDER / row["file_name"]).read_bytes(): row for row in csv.DictReader(lines)}
    return tuple(rows.values())


def _read(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image.convert(mode).resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX))


def _has_sticker(shown: LabelledPictures) -> np.ndarray:
    return shown.artefacts.any(axis=(1, 2))


def _with_groups(shown: LabelledPictures) -> LabelledPictures:
    return replace(shown, groups=_group(shown.labels, _has_sticker(shown)))


def _group(labels: np.ndarray, has_sticker: np.ndarray) -> np.ndarray:
    """Numbers of `GROUPS`."""
    return 2 * labels + has_sticker

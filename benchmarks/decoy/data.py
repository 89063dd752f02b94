"""Decoy digits: real handwritten digits with a grey square that betrays the class in training and lies at test.

As Ross et al. 2017 built DecoyMNIST: a 4×4 block in a random corner, grey 255 − 25·y in training and validation, 255 − 25·y′ with
random y′ at test. On the digits that ship with scikit-learn, enlarged to 28×28, or on MNIST.

Writes two data sets in the `imagefolder` convention. Only `aligned/` (train-like) is given to Plumbline; `test/` carries the
columns `group` and `mask_file_name`, which serve reporting alone.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.provenance import ROOT

MNIST = ROOT.parent / "shared" / "data" / "mnist.npz"

SIDE_PX = 28
SQUARE_PX = 4
DIGIT_PX = 20
TEST_RATIO = 1 / 3


@dataclass(frozen=True)
class DecoyDigits:
    """pictures (n, 28, 28) uint8, labels (n,), squares (n, 28, 28) bool, decoys (n,): the class that each square stands for."""

    pictures: np.ndarray
    labels: np.ndarray
    squares: np.ndarray
    decoys: np.ndarray

    @property
    def is_conflicting(self) -> np.ndarray:
        """(n,) bool: the square stands for another class than the digit's."""
        return self.labels != self.decoys


@dataclass(frozen=True)
class DecoySplits:
    """`train` and `validation` are made alike; only `test` has squares that lie."""

    train: DecoyDigits
    validation: DecoyDigits
    test: DecoyDigits


def load_splits(source: str, mnist_file: Path | None = None, seed: int = 0) -> DecoySplits:
    """`source` is "digits" (scikit-learn) or "mnist" (from `mnist_file`); a quarter of the training part validates (digits), a sixth (MNIST)."""
    rng = np.random.default_rng(seed)
    if source == "mnist":
        if mnist_file is None:
            raise ValueError("mnist_file: expected the path of mnist.npz")
        with np.load(mnist_file) as arrays:
            train, test = (
                (arrays[f"{part}_images"], arrays[f"{part}_labels"].astype(np.int64)) for part in ("train", "test")
            )
        validation_ratio = 1 / 6
    else:
        pictures, labels = _load_small_digits()
        order = rng.permutation(len(labels))
        cut = round(len(labels) * TEST_RATIO)
        test, train = ((pictures[part], labels[part]) for part in (order[:cut], order[cut:]))
        validation_ratio = 1 / 4
    order = rng.permutation(len(train[1]))
    cut = round(len(order) * validation_ratio)
    kept, held_out = order[cut:], order[:cut]
    return DecoySplits(
        train=_paste(rng, train[0][kept], train[1][kept], train[1][kept]),
        validation=_paste(rng, train[0][held_out], train[1][held_out], train[1][held_out]),
        test=_paste(rng, *test, rng.integers(0, 10, len(test[1]))),
    )


def write_imagefolder(folder: Path, digits: DecoyDigits, with_truth: bool) -> None:
    """PNG files and metadata.csv (file_name, label; with truth also group and mask_file_name)."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    columns = ["file_name", "label", *(("group", "mask_file_name") if with_truth else ())]
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for index, (picture, label) in enumerate(zip(digits.pictures, digits.labels, strict=True)):
            name = f"images/{index:05d}.png"
            Image.fromarray(picture).save(folder / name)
            row = [name, str(label)]
            if with_truth:
                mask_name = f"masks/{index:05d}.png"
                (folder / "masks").mkdir(exist_ok=True)
                Image.fromarray(digits.squares[index]).save(folder / mask_name)
                row += ["conflicting" if digits.is_conflicting[index] else "aligned", mask_name]
            writer.writerow(row)


def _load_small_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    margin = (SIDE_PX - DIGIT_PX) // 2
    pictures = np.zeros((len(bunch.images), SIDE_PX, SIDE_PX), dtype=np.uint8)
    for picture, small in zip(pictures, bunch.images, strict=True):
        image = Image.fromarray((small / 16 * 255).astype(np.uint8))
        big = image.resize((DIGIT_PX, DIGIT_PX), Image.Resampling.BICUBIC)
        picture[margin:-margin, margin:-margin] = np.asarray(big)
    return pictures, bunch.target.astype(np.int64)


def _paste(rng: np.random.Generator, pictures: np.ndarray, labels: np.ndarray, decoys: np.ndarray) -> DecoyDigits:
    pictures, squares = pictures.copy(), np.zeros(pictures.shape, dtype=bool)
    corners = rng.integers(0, 2, (len(labels), 2)) * (SIDE_PX - SQUARE_PX)
    for picture, square, decoy, (top, left) in zip(pictures, squares, decoys, corners, strict=True):
        window = np.s_[top : top + SQUARE_PX, left : left + SQUARE_PX]
        picture[window] = 255 - 25 * decoy
        square[window] = True
    return DecoyDigits(pictures, labels, squares, decoys)

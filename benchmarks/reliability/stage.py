"""What the scripts here share: a small shortcut model with its pictures, a local stack with settings of its own, and calls that wait for who is away."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.decoy.data import DecoyDigits, load_splits, write_imagefolder
from benchmarks.decoy.shortcut_model import train_shortcut_model, write_bundle
from benchmarks.provenance import ROOT
from plumbline.errors import PlumblineError
from plumbline.specification import load_specification
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import StackLayout
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

SPECIFICATION = ROOT / "benchmarks" / "decoy" / "specification.yaml"
DATASET = "digits"
MODEL_EPOCHS = 100
LONGEST_S = 300.0
"""What has not come by then does not come."""

Answer = TypeVar("Answer")


def make_model(folder: Path, pictures_per_class: int, classes: Sequence[int] = range(10)) -> Path:
    """A small shortcut model's bundle in `folder`, and beside it some of the pictures that it was trained on, as a data set."""
    digits = load_splits("digits").train
    write_bundle(folder / "bundle", train_shortcut_model(digits, 0, MODEL_EPOCHS), digits, 0, MODEL_EPOCHS)
    write_imagefolder(folder / "data", choose_pictures(pictures_per_class, classes), with_truth=False)
    return folder


def choose_pictures(per_class: int, classes: Sequence[int]) -> DecoyDigits:
    """The first training pictures of each of `classes`."""
    digits = load_splits("digits").train
    rows = np.concatenate([np.flatnonzero(digits.labels == label)[:per_class] for label in classes])
    return DecoyDigits(*(getattr(digits, name)[rows] for name in ("pictures", "labels", "squares", "decoys")))


@contextmanager
def serving(state: Path, model: Path, settings: Mapping[str, object]) -> Iterator[StackLayout]:
    """A fresh stack, its services with these variables too, and `model`'s pictures as the data set `digits`."""
    before = dict(os.environ)
    os.environ.update({name: str(value) for name, value in settings.items()})
    try:
        with tied_stack(state) as layout:
            shutil.copytree(model / "data", layout.data / DATASET)
            yield layout
    finally:
        os.environ.clear()
        os.environ.update(before)


def publishable_job(model_name: str, images_per_class: int, seed: int) -> trainer_pb.SubmitAlignmentRequest:
    """A job that aligns a model of that name and is published, whatever accuracy it costs; its key is the model's name."""
    return trainer_pb.SubmitAlignmentRequest(
        idempotency_key=model_name,
        model={"name": model_name},
        dataset_path=DATASET,
        specification=load_specification(SPECIFICATION).specification,
        options={
            "images_per_class": images_per_class,
            "epochs": 1,
            "seed": seed,
            "criteria": {"max_accuracy_drop": 1.0, "max_class_accuracy_drop": 1.0},
        },
    )


def insist(call: Callable[[], Answer]) -> Answer:
    """The answer of `call`, asked again for as long as its service, or one behind it, is away."""
    end = time.monotonic() + LONGEST_S
    while True:
        try:
            return call()
        except PlumblineError as error:
            if error.code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED") or time.monotonic() > end:
                raise
            time.sleep(0.2)

"""What the scripts here share: a small shortcut model with its pictures, a local stack with settings of its own, and calls that wait for who is away."""

from __future__ import annotations

import json
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
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.specification import load_specification
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import StackLayout
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.trainer.domain.job import Job, JobState

SPECIFICATION = ROOT / "benchmarks" / "decoy" / "specification.yaml"
DATASET = "digits"
MODEL_EPOCHS = 100
PUBLISHED_AT_ANY_COST = {"max_accuracy_drop": 1.0, "max_class_accuracy_drop": 1.0, "min_swap_accuracy_gain": 0.01}
NEVER_PUBLISHED = {"min_swap_accuracy_gain": 1.0}
"""Criteria: the second asks for what no training reaches."""
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


def small_job(
    key: str,
    model_name: str,
    images_per_class: int,
    seed: int,
    criteria: Mapping[str, float],
    dataset: str = DATASET,
    priority: str = "PRIORITY_UNSPECIFIED",
) -> trainer_pb.SubmitAlignmentRequest:
    """A job of one pass over few pictures, with the gate's `criteria`."""
    return trainer_pb.SubmitAlignmentRequest(
        idempotency_key=key,
        model={"name": model_name},
        dataset_path=dataset,
        specification=load_specification(SPECIFICATION).specification,
        priority=priority,
        options={"images_per_class": images_per_class, "epochs": 1, "seed": seed, "criteria": criteria},
    )


def list_publications(client: Client, job: Job) -> tuple[list[int], list[int]]:
    """Versions of the job's model that it made: those that are served, and those on its record."""
    served = [
        served.model.version
        for served in insist(lambda: client.models(job.request.model_name))
        if json.loads(served.provenance_json).get("job_id") == job.job_id
    ]
    return served, [event.published_version for event in job.events if event.state is JobState.PUBLISHED]


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

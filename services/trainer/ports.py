"""What the use cases need from outside, in our words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.common.runtime.errors import Unavailable
from services.common.vision.class_specification import ClassSpecification
from services.common.vision.critique import Critique
from services.common.vision.explanation import Segment
from services.common.vision.typed_rules import MaskSource, TypedRule
from services.trainer.domain.job import AlignmentRequest, Job, JobState
from services.trainer.domain.review import Review


class BrokerAway(Unavailable):
    """The broker can't be reached: whatever else needs it need not be tried now."""


class WorkerStopping(Unavailable):
    """The worker is told to go: the step goes on elsewhere, and that costs it no retry."""


class RunKilled(Unavailable):
    """The training died of a signal, as when memory runs out: worth another try, but not many."""


@dataclass(frozen=True)
class Sample:
    """One picture of a data set: its name and label there, the digest of its file, and the file."""

    file_name: str
    label: str
    digest: str
    path: Path


@dataclass(frozen=True)
class ModelAnswer:
    """A served version as the explainer names it; `is_champion` as it was when the version was looked up."""

    name: str
    version: int
    digest: str
    labels: tuple[str, ...]
    is_champion: bool = False
    has_several_labels: bool = False
    """Whether it says any number of its labels of a picture, each by itself."""


@dataclass(frozen=True)
class ExplainedSample:
    """A picture with the segments of its decision; `data` is the picture's encoded file."""

    sample: Sample
    target_label: str
    segments: tuple[Segment, ...]
    data: bytes


@dataclass(frozen=True)
class Progress:
    """Steps done within a state; `loss` in training only, `eta_s` seconds left as of this step, None until a rate is known."""

    done: int
    total: int
    unit: str
    loss: float | None = None
    eta_s: float | None = None


class Explainer(Protocol):
    """The explainer service."""

    def find_model(self, name: str, version: int) -> ModelAnswer:
        """The served version; 0 means the champion."""

    def predict(self, model: ModelAnswer, samples: Sequence[Sample]) -> np.ndarray:
        """Probabilities (picture, class) of any number of pictures."""

    def explain(self, model: ModelAnswer, samples: Sequence[Sample]) -> list[ExplainedSample]:
        """Any number of pictures with the segments of their predicted class."""

    def publish(self, name: str, bundle_path: str, expected_champion: int, key: str) -> ModelAnswer:
        """Serve a bundle of the artifact store as the next version; the same `key` publishes once."""


class Lvlm(Protocol):
    """The LVLM service."""

    def translate(
        self,
        model: ModelAnswer,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedSample],
        job_id: str,
        mask_source: MaskSource,
        typed_rules: Sequence[TypedRule],
    ) -> None:
        """Have up to 32 pictures judged; the critiques arrive on the job's queue."""


class Queue(Protocol):
    """The broker."""

    def send_critique(self, job: Job) -> None:
        """Ask for the critiquing step; jobs of a higher priority come first."""

    def send_train(self, job: Job) -> None:
        """Ask for the training step, likewise."""

    def waiting_jobs(self) -> Collection[str]:
        """Ids of the jobs of which a step waits there now, or critiques do. Raises `BrokerAway`."""


class ProgressBoard(Protocol):
    """Where the latest progress is shown; may be lost."""

    def show(self, job_id: str, progress: Progress) -> None:
        """Replace the job's progress."""

    def look(self, job_id: str) -> Progress | None:
        """The job's progress, if any is known."""


class DatasetReader(Protocol):
    """The data root."""

    def read(self, dataset_path: str) -> list[Sample]:
        """Pictures of a data set, in the order of its table."""


class Lease(Protocol):
    """Who works on a job. Lost when its holder dies or can't reach the broker; the record still lets one writer through only."""

    def hold(self, job_id: str, step: str) -> AbstractContextManager[Callable[[], bool]]:
        """Hold a job's step until the block ends; yields a question: is it still ours?

        `Conflict` when somebody else holds it, and instead of any failure of the block once it is lost.
        """

    def touch(self, job_id: str) -> None:
        """Say that something happens to the job."""

    def is_active(self, job_id: str) -> bool:
        """Whether somebody holds a step of the job or touched it within a minute. Raises `BrokerAway`."""

    def claim_recovery(self, job_id: str) -> bool:
        """Whether the caller is the one to send the job on again; for a minute nobody else is. Raises `BrokerAway`."""

    def note_recovery(self, job_id: str) -> None:
        """Say that the job was sent on again; for ten minutes nobody may claim that."""


@dataclass(frozen=True)
class JobBrief:
    """What lists are filtered and open jobs are counted by."""

    state: JobState
    submitter: str


class Record(Protocol):
    """The jobs' immutable record."""

    def file(self, request: AlignmentRequest) -> Job:
        """File a job, or find the one that this idempotency key filed."""

    def find(self, idempotency_key: str, asked_digest: str) -> Job | None:
        """The job that this key filed with the same content, if any."""

    def load(self, job_id: str) -> Job:
        """A job as it stands."""

    def brief(self, job_id: str) -> JobBrief:
        """A job's state and submitter, for less than `load` takes and, once it has ended, for nothing."""

    def job_ids(self) -> list[str]:
        """All jobs, newest first."""

    def advance(self, job: Job, state: JobState, **details: Any) -> Job:
        """Move a job on from where the caller saw it; of two who try, one gets `Conflict`."""

    def has_bundle(self, name: str, digest: str) -> bool:
        """Whether the model's bundle is there to be fine-tuned."""


TRACE = "trace.json"
"""The job's object with the W3C headers of the span in which it was filed, where traces are kept: its steps go on below that, whoever sent them on."""


class JobFiles(Protocol):
    """What belongs to a job besides its state; immutable too."""

    def write_once(self, job_id: str, name: str, content: Any) -> bool:
        """Keep a JSON object; False when there is one of that name."""

    def read(self, job_id: str, name: str) -> Any | None:
        """A kept JSON object, None when there is none."""

    def set_aside(self, job_id: str, content: Any, reason: str) -> None:
        """Keep what could not be used, with the reason."""

    def drop_checkpoints(self, job_id: str) -> None:
        """Remove what a training of the job could go on from."""

    def add_picture(self, job_id: str, digest: str, data: bytes) -> None:
        """Keep a critiqued picture's file."""

    def picture(self, job_id: str, digest: str) -> bytes:
        """A kept picture's file."""


class Critiques(Protocol):
    """A job's critiques: one per picture, the first one counts."""

    def add_critique(self, job_id: str, critique: Critique) -> bool:
        """Keep a critique; False when the picture has one."""

    def critique(self, job_id: str, digest: str) -> Critique | None:
        """The kept critique of a picture, None when there is none."""

    def effective_critiques(self, job_id: str) -> list[Critique]:
        """Those that train and measure, by picture digest: what the reviews make of the kept ones."""

    def critiqued(self, job_id: str) -> set[str]:
        """Digests of the pictures that have one."""

    def verdict_counts(self, job_id: str) -> dict[str, int]:
        """Kept verdicts by name."""


class Reviews(Protocol):
    """What people decided of a job's critiques: one entry after the other."""

    def add_review(self, job_id: str, number: int, review: Review) -> bool:
        """Keep the entry with that number, counted from 0; False when there is one."""

    def reviews(self, job_id: str) -> list[Review]:
        """All entries, oldest first."""


class Archive(Record, JobFiles, Critiques, Reviews, Protocol):
    """The whole record."""


@dataclass(frozen=True)
class TrackedJob:
    """What a tracker is told of a job before it trains: what was asked for (`settings`, never another for a job) and what it comes from (`lineage`)."""

    job_id: str
    model_name: str
    settings: Mapping[str, str]
    lineage: Mapping[str, str]


@dataclass(frozen=True)
class RunEnd:
    """How a job's step was left: the job's last state, or CUT_OFF; texts and numbers by name."""

    outcome: str
    told: Mapping[str, str]
    numbers: Mapping[str, float]


class Tracker(Protocol):
    """Where engineers look at trainings as curves. It is no part of the record: what it is told may be lost."""

    def begin(self, job: TrackedJob) -> None:
        """Open the job's run; a job that comes again goes on in the run that it has."""

    def tell(self, job_id: str, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers of a step, by name. A job that goes on from an earlier step tells the later ones again."""

    def end(self, job_id: str, end: RunEnd) -> None:
        """Close the run, for now or for good."""


class TrainingRun(Protocol):
    """Fine-tuning in a process of its own."""

    def __call__(
        self,
        job: Job,
        on_progress: Callable[[Progress], None],
        is_wanted: Callable[[], bool],
        on_numbers: Callable[[int, Mapping[str, float]], None],
    ) -> dict[str, Any] | None:
        """Train, measure, decide; returns what was measured, with `bundle_path` when there is a challenger.

        `on_numbers` is told a step and numbers of it by name, as `domain/alignment` tells them.
        `is_wanted` is asked about every second; None when it said no and the run was stopped. `WorkerStopping` when the worker is told
        to go meanwhile, `RunKilled` when the run died. After these two another run of the job goes on from the last checkpoint.
        """

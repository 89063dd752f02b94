"""The critiquing step: choose pictures, have them explained and judged. `consuming` takes in what comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from services.common.runtime.errors import InvalidInput, WrongState
from services.common.vision.critique import MAX_BATCH_CRITIQUES
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.selection import digest_table, select_for_alignment, select_held_out, split_rows
from services.trainer.handlers.attempting import attempt, count_series, note, read_series
from services.trainer.handlers.completing import ASKED, EXPECTED, SPLIT, Completing
from services.trainer.handlers.pacing import Pace
from services.trainer.ports import (
    Archive,
    DatasetReader,
    Explainer,
    JobFiles,
    Lease,
    Lvlm,
    ModelAnswer,
    Progress,
    ProgressBoard,
    Sample,
    WorkerStopping,
)

TRAIN_PART, HELD_OUT_PART = "train", "held_out"
MAX_FRUITLESS_ROUNDS = 3
"""Asked so often and no critique came: none will."""


class Critiquing:
    """Asks for a job's critiques; asks again for those that do not come within `patience_s` when the recovery sends the job on."""

    def __init__(
        self,
        archive: Archive,
        explainer: Explainer,
        lvlm: Lvlm,
        datasets: DatasetReader,
        completing: Completing,
        board: ProgressBoard,
        lease: Lease,
        stopping: threading.Event,
        patience_s: float = 300.0,
    ) -> None:
        self._archive = archive
        self._explainer = explainer
        self._lvlm = lvlm
        self._datasets = datasets
        self._completing = completing
        self._board = board
        self._lease = lease
        self._stopping = stopping
        self._patience = timedelta(seconds=patience_s)

    def critique(self, job_id: str) -> None:
        """Choose the pictures and ask for their critiques. May run again, after it was cut off or critiques were lost: what is there is
        not redone.

        Raises
        ------
        Conflict
            When another worker has the job.
        WorkerStopping
            When `stopping` was set meanwhile.
        WrongState
            When critiques were asked for three times and none came.
        """
        with self._lease.hold(job_id, "critique") as is_ours:
            job = self._archive.load(job_id)
            if job.state == JobState.QUEUED:
                job = self._archive.advance(job, JobState.CRITIQUING)
            if job.state != JobState.CRITIQUING:
                return
            with attempt(self._archive, job_id, "critique"):
                if self._is_time_to_ask(job_id):
                    self._ask(job, self._choose(job), is_ours)
        self._completing.send_when_complete(job_id)

    def _is_time_to_ask(self, job_id: str) -> bool:
        """Whether critiques are missing and not on their way; `WrongState` when asking is of no use."""
        if self._completing.is_complete(job_id):
            return False
        rounds = read_series(self._archive, job_id, _round_name)
        if rounds and datetime.now(UTC) - datetime.fromisoformat(rounds[-1]["at"]) < self._patience:
            return False
        critiqued = self._archive.critiqued(job_id)
        fruitless = rounds[-MAX_FRUITLESS_ROUNDS:]
        if len(fruitless) == MAX_FRUITLESS_ROUNDS and fruitless[0]["critiqued"] == len(critiqued):
            asked = set(self._archive.read(job_id, ASKED))
            missing = f"{len(asked - critiqued)} of {len(asked)} critiques"
            raise WrongState(f"gave up: asked {MAX_FRUITLESS_ROUNDS} times, and {missing} never came")
        return True

    def _choose(self, job: Job) -> dict[str, Sample]:
        """The pictures to critique, by digest, as `expected.json` has them."""
        samples = self._datasets.read(job.request.dataset_path)
        if self._archive.read(job.job_id, EXPECTED) is None:
            self._board.show(job.job_id, Progress(0, len(samples), "image"))
            content = self._select(job, samples)
            self._archive.write_once(job.job_id, SPLIT, {"table_digest": _digest(samples)})
            self._archive.write_once(job.job_id, EXPECTED, content)
        return find_chosen(self._archive, job.job_id, samples)

    def _select(self, job: Job, samples: list[Sample]) -> dict[str, dict[str, Any]]:
        labels = [sample.label for sample in samples]
        split = split_rows(labels, job.request.seed)
        probabilities = np.zeros((len(samples), len(job.request.labels)))
        probabilities[split.train] = self._explainer.predict(_model(job), [samples[row] for row in split.train])
        chosen = select_for_alignment(
            probabilities,
            labels,
            split.train,
            job.request.images_per_class,
            job.request.selection,
            job.request.seed,
        )
        # The same file twice in a data set must not be trained on and held out.
        trained = {samples[row].digest for row in split.train}
        held_out = [
            row
            for row in select_held_out(labels, split.validation, job.request.seed)
            if samples[row].digest not in trained
        ]
        rows = [*((row, TRAIN_PART) for row in chosen), *((row, HELD_OUT_PART) for row in held_out)]
        return {samples[row].digest: self._keep_picture(job, samples[row], part) for row, part in rows}

    def _keep_picture(self, job: Job, sample: Sample, part: str) -> dict[str, Any]:
        data = sample.path.read_bytes()
        try:
            height_px, width_px = decode_image(data, ImageLimits(), "data").shape[:2]
        except InvalidInput as error:
            raise InvalidInput("dataset_path", f"'{sample.file_name}': {error.description}") from error
        self._archive.add_picture(job.job_id, sample.digest, data)
        return {"file_name": sample.file_name, "label": sample.label, "part": part, "size": [height_px, width_px]}

    def _ask(self, job: Job, samples: dict[str, Sample], is_ours: Callable[[], bool]) -> None:
        there = self._archive.critiqued(job.job_id)
        asked: list[str] = sorted(there)
        waiting = [sample for digest, sample in samples.items() if digest not in there]
        pace = Pace()

        def show(done: int) -> None:
            self._board.show(job.job_id, pace.foresee(Progress(done, len(samples), "image")))

        show(len(there))
        for start in range(0, len(waiting), MAX_BATCH_CRITIQUES):
            if self._stopping.is_set():
                raise WorkerStopping("the worker is told to go")
            if not is_ours() or self._archive.load(job.job_id).state != JobState.CRITIQUING:
                return
            chunk = waiting[start : start + MAX_BATCH_CRITIQUES]
            # A picture without positive evidence has nothing to judge.
            explained = [picture for picture in self._explainer.explain(_model(job), chunk) if picture.segments]
            if explained:
                request = job.request
                self._lvlm.translate(
                    _model(job),
                    request.specification,
                    explained,
                    job.job_id,
                    request.mask_source,
                    request.typed_rules,
                )
            asked += [picture.sample.digest for picture in explained]
            show(len(there) + start + len(chunk))
        self._archive.write_once(job.job_id, ASKED, asked)
        number = count_series(self._archive, job.job_id, _round_name)
        self._archive.write_once(job.job_id, _round_name(number), note() | {"critiqued": len(there)})


def find_chosen(files: JobFiles, job_id: str, samples: Sequence[Sample]) -> dict[str, Sample]:
    """The pictures of `expected.json` among the data set's, by digest.

    Found by name: a data set may hold a file twice, under other names and labels.

    Raises
    ------
    InvalidInput
        At `dataset_path`, when the data set is no longer the one that they were chosen from: its split would be another one.
    """
    by_name = {sample.file_name: sample for sample in samples}
    chosen: dict[str, Sample] = {}
    for digest, entry in files.read(job_id, EXPECTED).items():
        sample = by_name.get(entry["file_name"])
        if sample is None or sample.digest != digest:
            raise InvalidInput("dataset_path", f"'{entry['file_name']}' changed or vanished since it was chosen")
        chosen[digest] = sample
    if files.read(job_id, SPLIT)["table_digest"] != _digest(samples):
        raise InvalidInput("dataset_path", "the data set changed since the pictures were chosen; file a new job")
    return chosen


def _round_name(number: int) -> str:
    return f"rounds/{number}.json"


def _digest(samples: Sequence[Sample]) -> str:
    return digest_table((sample.file_name, sample.label, sample.digest) for sample in samples)


def _model(job: Job) -> ModelAnswer:
    request = job.request
    return ModelAnswer(request.model_name, request.model_version, request.model_digest, tuple(request.labels))

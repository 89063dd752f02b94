"""The critiquing step: choose pictures, have them explained and judged, take the critiques in, send the job to training once."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from pydantic import ValidationError

from services.common.runtime.errors import InvalidInput, NotFound
from services.common.vision.critique import MAX_BATCH_CRITIQUES, Critique
from services.common.vision.masks import decode_mask
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.selection import select_for_alignment, select_held_out, split_rows
from services.trainer.ports import (
    DatasetReader,
    ExplainedSample,
    Explainer,
    Lvlm,
    ModelAnswer,
    Progress,
    ProgressBoard,
    Queue,
    Record,
    Sample,
)

log = logging.getLogger(__name__)

EXPECTED = "expected.json"
ASKED = "asked.json"
SENT_TO_TRAINING = "sent_to_training.json"
TRAIN_PART, HELD_OUT_PART = "train", "held_out"


class Critiquing:
    """Asks for critiques and takes them in."""

    def __init__(
        self,
        record: Record,
        explainer: Explainer,
        lvlm: Lvlm,
        datasets: DatasetReader,
        queue: Queue,
        board: ProgressBoard,
    ) -> None:
        self._record = record
        self._explainer = explainer
        self._lvlm = lvlm
        self._datasets = datasets
        self._queue = queue
        self._board = board

    def critique(self, job_id: str) -> None:
        """Choose the pictures and ask for their critiques. May run again after it was cut off: what is there is not redone."""
        job = self._record.load(job_id)
        if job.state == JobState.QUEUED:
            job = self._record.advance(job_id, JobState.CRITIQUING)
        if job.state != JobState.CRITIQUING:
            return
        samples = self._choose(job)
        self._ask(job, samples)
        self._send_when_complete(job_id)

    def consume(self, batch: dict[str, Any]) -> None:
        """Take a critique batch in, critique by critique; a bad one is set aside with its reason and the rest goes on."""
        job_id = batch.get("job_id") if isinstance(batch, dict) else None
        try:
            job = self._record.load(str(job_id))
        except NotFound as error:
            self._record.set_aside(str(job_id), batch, error.message)
            log.warning("critique batch names no job")
            return
        critiques = batch.get("critiques")
        if batch.get("schema_version", 1) != 1 or not isinstance(critiques, list) or not critiques:
            self._record.set_aside(job.job_id, batch, "expected schema_version 1 and a list of critiques")
            return
        if len(critiques) > MAX_BATCH_CRITIQUES:
            self._record.set_aside(
                job.job_id, batch, f"{len(critiques)} critiques; at most {MAX_BATCH_CRITIQUES} fit a batch"
            )
            return
        expected = self._record.read(job.job_id, EXPECTED) or {}
        for content in critiques:
            try:
                self._record.add_critique(job.job_id, _check(content, job, expected))
            except (InvalidInput, ValidationError) as error:
                self._record.set_aside(job.job_id, content, str(error))
                log.warning("critique set aside", extra={"job_id": job.job_id})
        self._send_when_complete(job.job_id)

    def _choose(self, job: Job) -> dict[str, Sample]:
        """The pictures to critique, by digest, as `expected.json` has them."""
        samples = self._datasets.read(job.request.dataset_path)
        by_digest = {sample.digest: sample for sample in samples}
        kept = self._record.read(job.job_id, EXPECTED)
        if kept is None:
            labels = [sample.label for sample in samples]
            split = split_rows(labels, job.request.seed)
            self._board.show(job.job_id, Progress(0, len(samples), "image"))
            images = [samples[row].path.read_bytes() for row in split.train]
            probabilities = np.zeros((len(samples), len(job.request.labels)))
            probabilities[split.train] = self._explainer.predict(_model(job), images)
            chosen = select_for_alignment(probabilities, labels, split.train, job.request.images_per_class)
            held_out = select_held_out(labels, split.validation, job.request.seed)
            rows = [*((row, TRAIN_PART) for row in chosen), *((row, HELD_OUT_PART) for row in held_out)]
            content = {
                samples[row].digest: {"file_name": samples[row].file_name, "label": samples[row].label, "part": part}
                for row, part in rows
            }
            self._record.write_once(job.job_id, EXPECTED, content)
            kept = self._record.read(job.job_id, EXPECTED)
        missing = [entry["file_name"] for digest, entry in kept.items() if digest not in by_digest]
        if missing:
            raise InvalidInput("dataset_path", f"'{missing[0]}' changed or vanished since the job was filed")
        return {digest: by_digest[digest] for digest in kept}

    def _ask(self, job: Job, samples: dict[str, Sample]) -> None:
        there = {critique.image_digest for critique in self._record.critiques(job.job_id)}
        asked: list[str] = sorted(there)
        waiting = [sample for digest, sample in samples.items() if digest not in there]
        for start in range(0, len(waiting), MAX_BATCH_CRITIQUES):
            if self._record.load(job.job_id).state != JobState.CRITIQUING:
                return
            explained = self._explainer.explain(_model(job), waiting[start : start + MAX_BATCH_CRITIQUES])
            # A picture without positive evidence has nothing to judge.
            explained = [picture for picture in explained if picture.segments]
            if explained:
                self._keep_and_translate(job, explained)
            asked += [picture.sample.digest for picture in explained]
            self._board.show(job.job_id, Progress(start + len(explained), len(samples), "image"))
        self._record.write_once(job.job_id, ASKED, asked)

    def _keep_and_translate(self, job: Job, explained: list[ExplainedSample]) -> None:
        for picture in explained:
            self._record.add_picture(job.job_id, picture.sample.digest, picture.data)
        self._lvlm.translate(_model(job), job.request.specification, explained, job.job_id)

    def _send_when_complete(self, job_id: str) -> None:
        """Of all who see the job complete, one sends it on."""
        asked = self._record.read(job_id, ASKED)
        if asked is None or self._record.load(job_id).state != JobState.CRITIQUING:
            return
        there = {critique.image_digest for critique in self._record.critiques(job_id)}
        if set(asked) <= there and self._record.write_once(job_id, SENT_TO_TRAINING, {"critiques": len(there)}):
            self._queue.send_train(job_id)


def _model(job: Job) -> ModelAnswer:
    request = job.request
    return ModelAnswer(request.model_name, request.model_version, request.model_digest, tuple(request.labels))


def _check(content: Any, job: Job, expected: dict[str, Any]) -> Critique:
    critique = Critique.model_validate(content)
    if critique.image_digest not in expected:
        raise InvalidInput("image_digest", f"job {job.job_id} did not ask for this picture")
    if critique.model_digest != job.request.model_digest:
        raise InvalidInput("model_digest", f"expected {job.request.model_digest}, the model that the job aligns")
    if critique.true_label != expected[critique.image_digest]["label"]:
        raise InvalidInput(
            "true_label", f"expected '{expected[critique.image_digest]['label']}', as the data set has it"
        )
    for index, verdict in enumerate(critique.verdicts):
        decode_mask(verdict.mask.counts, *verdict.mask.size, f"verdicts[{index}].mask")
    return critique

"""File a job: everything that can be wrong with it is said now, not in an hour."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import ClassSpecification
from services.trainer.domain.job import AlignmentRequest, Job, JobState
from services.trainer.ports import DatasetReader, Explainer, Queue, Record

DEFAULT_IMAGES_PER_CLASS = 40
DEFAULT_EPOCHS = 2


@dataclass(frozen=True)
class Submission:
    """What a caller sends; 0 stands for a default."""

    idempotency_key: str
    model_name: str
    model_version: int
    dataset_path: str
    specification: ClassSpecification
    images_per_class: int = 0
    epochs: int = 0
    seed: int = 0


class Submitting:
    """Files jobs and sends them to the workers."""

    def __init__(self, record: Record, explainer: Explainer, datasets: DatasetReader, queue: Queue) -> None:
        self._record = record
        self._explainer = explainer
        self._datasets = datasets
        self._queue = queue

    def submit(self, submission: Submission) -> Job:
        """The filed job, or the one that the same key filed with the same content.

        Raises
        ------
        InvalidInput
            At the field at fault.
        NotFound
            When there is no such model.
        AlreadyExists
            When the key filed other content.
        Unavailable
            When the explainer or the broker is away; in the latter case the job is filed, and the same key sends it again.
        """
        _check_range("options.images_per_class", submission.images_per_class, 10_000)
        _check_range("options.epochs", submission.epochs, 200)
        if not submission.model_name:
            raise InvalidInput("model.name", "empty; expected the name of a served model")
        model = self._explainer.find_model(submission.model_name, submission.model_version)
        try:
            submission.specification.check_classes(model.labels)
        except InvalidInput as error:
            raise error.below("specification") from error
        self._check_labels(submission.dataset_path, model.labels)
        job = self._record.file(
            AlignmentRequest(
                idempotency_key=submission.idempotency_key,
                asked_digest=f"sha256:{hashlib.sha256(repr(submission).encode()).hexdigest()}",
                model_name=model.name,
                model_version=model.version,
                model_digest=model.digest,
                labels=list(model.labels),
                dataset_path=submission.dataset_path,
                specification=submission.specification,
                images_per_class=submission.images_per_class or DEFAULT_IMAGES_PER_CLASS,
                epochs=submission.epochs or DEFAULT_EPOCHS,
                seed=submission.seed,
            )
        )
        if job.state == JobState.QUEUED:
            self._queue.send_critique(job.job_id)
        return job

    def _check_labels(self, dataset_path: str, labels: tuple[str, ...]) -> None:
        for sample in self._datasets.read(dataset_path):
            if sample.label not in labels:
                raise InvalidInput(
                    "dataset_path",
                    f"'{sample.file_name}' is labelled '{sample.label}', which is none of {', '.join(labels)}",
                )


def _check_range(field: str, value: int, most: int) -> None:
    if not 0 <= value <= most:
        raise InvalidInput(field, f"expected 1 to {most}, or 0 for the default; got {value}")

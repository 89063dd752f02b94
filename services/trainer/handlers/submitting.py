"""File a job: everything that can be wrong with it is said now, not in an hour."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, field, fields

from services.common.runtime.errors import InvalidInput, Overloaded
from services.common.vision.class_specification import EVERY_CLASS, ClassSpecification
from services.common.vision.typed_rules import MaskSource, TypedRule, list_phrases
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import AlignmentRequest, Job, JobState, Loss, Priority
from services.trainer.domain.selection import Selection
from services.trainer.ports import DatasetReader, Explainer, ModelAnswer, Queue, Record

DEFAULT_IMAGES_PER_CLASS = 40
DEFAULT_EPOCHS = 8
MIN_PICTURES_PER_CLASS = 5
"""A fifth validates: with fewer a class has nothing to validate on."""
MAX_SEED = 2**63 - 1
MAX_KEY_LENGTH = MAX_SUBMITTER_LENGTH = 256
_QUOTA_RETRY_S = 60.0


@dataclass(frozen=True)
class Submission:
    """What a caller sends; 0 and "" stand for a default."""

    idempotency_key: str
    model_name: str
    model_version: int
    dataset_path: str
    specification: ClassSpecification
    model_digest: str = ""
    images_per_class: int = 0
    epochs: int = 0
    seed: int = 0
    mask_source: MaskSource = MaskSource.JUDGED
    typed_rules: tuple[TypedRule, ...] = ()
    loss: Loss = Loss.RRR
    selection: Selection = Selection.LOW_ENTROPY_PER_CLASS
    criteria: Criteria = field(default_factory=Criteria)
    priority: Priority = Priority.NORMAL
    submitter: str = ""
    review: bool = False
    retry_of: str = ""

    @property
    def digest(self) -> str:
        """What "the same content" means for an idempotency key."""
        content = asdict(self)
        # Keys of jobs that were filed before there was a choice stay theirs.
        if self.mask_source is MaskSource.JUDGED and not self.typed_rules:
            del content["mask_source"], content["typed_rules"]
        # Of all that came later only what was chosen: so what is added to it changes no key either.
        for name in ("loss", "selection", "priority", "submitter", "review", "retry_of"):
            if content[name] == getattr(Submission, name):
                del content[name]
        criteria = content.pop("criteria")
        chosen = {name: asked for name, asked in criteria.items() if asked != getattr(Criteria, name)}
        if chosen:
            content["criteria"] = chosen
        text = json.dumps(content, sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


class Submitting:
    """Files jobs and sends them to the workers."""

    def __init__(
        self,
        record: Record,
        explainer: Explainer,
        datasets: DatasetReader,
        queue: Queue,
        max_open_per_submitter: int = 0,
    ) -> None:
        self._record = record
        self._explainer = explainer
        self._datasets = datasets
        self._queue = queue
        self._max_open = max_open_per_submitter

    def submit(self, submission: Submission) -> Job:
        """The filed job, or the one that the same key filed with the same content, whatever became of model and data since.

        Raises
        ------
        InvalidInput
            At the field at fault.
        NotFound
            When there is no such model.
        AlreadyExists
            When the key filed other content.
        Overloaded
            When the submitter has as many open jobs as it may have. Two that file at the same moment may both be let in.
        Unavailable
            When the explainer or the broker is away; in the latter case the job is filed, and the same key sends it again.
        """
        _check_ranges(submission)
        job = None
        if submission.idempotency_key:
            job = self._record.find(submission.idempotency_key, submission.digest)
        job = job or self._file(submission)
        if job.state == JobState.QUEUED:
            self._queue.send_critique(job)
        return job

    def _file(self, submission: Submission) -> Job:
        self._check_quota(submission.submitter)
        model = self._find_model(submission)
        try:
            submission.specification.check_classes(model.labels)
        except InvalidInput as error:
            raise error.below("specification") from error
        class_names = self._check_pictures(submission.dataset_path, model.labels)
        _check_rules(submission, model.labels, class_names)
        return self._record.file(
            AlignmentRequest(
                idempotency_key=submission.idempotency_key,
                asked_digest=submission.digest,
                model_name=model.name,
                model_version=model.version,
                model_digest=model.digest,
                labels=list(model.labels),
                dataset_path=submission.dataset_path,
                specification=submission.specification,
                images_per_class=submission.images_per_class or DEFAULT_IMAGES_PER_CLASS,
                epochs=submission.epochs or DEFAULT_EPOCHS,
                seed=submission.seed,
                mask_source=submission.mask_source,
                typed_rules=submission.typed_rules,
                loss=submission.loss,
                selection=submission.selection,
                criteria=submission.criteria,
                priority=submission.priority,
                submitter=submission.submitter,
                review=submission.review,
                retry_of=submission.retry_of,
            )
        )

    def _check_quota(self, submitter: str) -> None:
        """Raise `Overloaded` when `submitter` has as many open jobs as it may have; those who give no name share one quota."""
        if not self._max_open:
            return
        briefs = (self._record.brief(job_id) for job_id in self._record.job_ids())
        open_count = sum(brief.submitter == submitter and not brief.state.is_final for brief in briefs)
        if open_count >= self._max_open:
            name = f"'{submitter}'" if submitter else "submitters without a name"
            raise Overloaded(
                f"submitter: {name} has {open_count} open jobs of at most {self._max_open}; wait until one ends, or cancel one",
                retry_after_s=_QUOTA_RETRY_S,
            )

    def _find_model(self, submission: Submission) -> ModelAnswer:
        model = self._explainer.find_model(submission.model_name, submission.model_version)
        if submission.model_digest not in ("", model.digest):
            raise InvalidInput("model.digest", f"version {model.version} of '{model.name}' has {model.digest}")
        if not model.is_champion:
            raise InvalidInput(
                "model.version",
                f"version {model.version} of '{model.name}' is not its champion, and what is made of it could not be published; "
                "expected the champion's version, or 0",
            )
        if model.has_several_labels:
            raise InvalidInput(
                "model.name",
                f"'{model.name}' may say several labels of a picture (multi_label_classification) and is not aligned; expected a model that says one: "
                "the choice of pictures, the losses, the swaps and the gate rest on one softmax",
            )
        if not self._record.has_bundle(model.name, model.digest):
            raise InvalidInput(
                "model",
                f"the bundle of version {model.version} is not in the artifact store, so it can't be fine-tuned",
            )
        return model

    def _check_pictures(self, dataset_path: str, labels: tuple[str, ...]) -> list[str]:
        """The classes that the data set has; `InvalidInput` when the model or the split can't use it."""
        samples = self._datasets.read(dataset_path)
        for sample in samples:
            if sample.label not in labels:
                raise InvalidInput(
                    "dataset_path",
                    f"'{sample.file_name}' is labelled '{sample.label}', which is none of {', '.join(labels)}",
                )
        counts = Counter(sample.label for sample in samples)
        few = min(counts, key=lambda label: counts[label])
        if len(counts) < 2 or counts[few] < MIN_PICTURES_PER_CLASS:
            raise InvalidInput(
                "dataset_path",
                f"class '{few}' has {counts[few]} pictures; expected two classes at least and {MIN_PICTURES_PER_CLASS} pictures of each",
            )
        return list(counts)


def _check_rules(submission: Submission, labels: tuple[str, ...], class_names: list[str]) -> None:
    """Raise `InvalidInput` when a rule names a class the model does not have, or the rules do not do for all of `class_names`."""
    for index, rule in enumerate(submission.typed_rules):
        if rule.class_name != EVERY_CLASS and rule.class_name not in labels:
            raise InvalidInput(
                f"rules[{index}].class_name",
                f"the model has no class '{rule.class_name}'; it has {', '.join(labels)}",
            )
    list_phrases(submission.mask_source, submission.typed_rules, class_names)


def _check_ranges(submission: Submission) -> None:
    for path, value, most in (
        ("options.images_per_class", submission.images_per_class, 10_000),
        ("options.epochs", submission.epochs, 200),
    ):
        if not 0 <= value <= most:
            raise InvalidInput(path, f"expected 1 to {most}, or 0 for the default; got {value}")
    if not 0 <= submission.seed < MAX_SEED:
        raise InvalidInput("options.seed", f"expected 0 to {MAX_SEED - 1}, got {submission.seed}")
    for criterion in fields(Criteria):
        asked = getattr(submission.criteria, criterion.name)
        if asked is not None and not 0 <= asked <= 1:
            raise InvalidInput(f"options.criteria.{criterion.name}", f"expected a ratio from 0 to 1, got {asked:g}")
    if len(submission.idempotency_key) > MAX_KEY_LENGTH:
        raise InvalidInput("idempotency_key", f"longer than {MAX_KEY_LENGTH} characters")
    if len(submission.submitter) > MAX_SUBMITTER_LENGTH:
        raise InvalidInput("submitter", f"longer than {MAX_SUBMITTER_LENGTH} characters")
    if not submission.model_name:
        raise InvalidInput("model.name", "empty; expected the name of a served model")
    if submission.model_version < 0:
        raise InvalidInput(
            "model.version", f"expected a version, or 0 for the champion; got {submission.model_version}"
        )

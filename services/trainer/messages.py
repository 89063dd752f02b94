"""`plumbline.trainer.v1` messages to our types and back; the servicer and the submit task share it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from plumbline.common.v1 import vision_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common import wire
from services.common.runtime.errors import InvalidInput
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import JobState, Loss, Priority
from services.trainer.domain.selection import Selection
from services.trainer.handlers.submitting import Submission
from services.trainer.handlers.watching import JobView

Choice = TypeVar("Choice", bound=StrEnum)


def read_submission_json(content: Any) -> Submission:
    """A submission from the JSON form of SubmitAlignmentRequest, as it comes from the queue."""
    if not isinstance(content, dict):
        raise InvalidInput("request", "expected an object")
    try:
        return read_submission(json_format.ParseDict(content, pb.SubmitAlignmentRequest()))
    except json_format.ParseError as error:
        raise InvalidInput("request", str(error)) from error


def read_submission(request: pb.SubmitAlignmentRequest) -> Submission:
    """A submission from its message."""
    return Submission(
        idempotency_key=request.idempotency_key,
        model_name=request.model.name,
        model_version=request.model.version,
        model_digest=request.model.digest,
        dataset_path=request.dataset_path,
        specification=wire.specification_from_proto(request.specification),
        images_per_class=request.options.images_per_class,
        epochs=request.options.epochs,
        seed=request.options.seed,
        mask_source=wire.mask_source_from_proto(request.mask_source),
        typed_rules=wire.rules_from_proto(request.rules),
        loss=_read_choice(request.options, "options.loss", Loss.RRR),
        selection=_read_choice(request.options, "options.selection", Selection.LOW_ENTROPY_PER_CLASS),
        criteria=_read_criteria(request.options.criteria),
        priority=_read_choice(request, "priority", Priority.NORMAL),
        submitter=request.submitter,
        review=request.review,
    )


def read_states(numbers: Sequence[int]) -> list[JobState]:
    """States to filter by; `InvalidInput` at the one that stands for nothing."""
    states = []
    for index, number in enumerate(numbers):
        named = pb.JobState.DESCRIPTOR.values_by_number.get(number)
        if not number or named is None:
            raise InvalidInput(f"states[{index}]", f"no state {number}; expected one of {', '.join(JobState)}")
        states.append(JobState(named.name.removeprefix("JOB_STATE_")))
    return states


def _read_criteria(message: pb.AcceptanceCriteria) -> Criteria:
    """Criteria, defaults where they are unset."""
    return Criteria(**{field.name: asked for field, asked in message.ListFields()})


def _read_choice(message: Message, path: str, default: Choice) -> Choice:
    """What stands in the enum field of `message` that `path` ends with; unset means the default.

    `InvalidInput` at `path` when its number stands for nothing.
    """
    field = path.rpartition(".")[2]
    number = getattr(message, field)
    if not number:
        return default
    named = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number.get(number)
    if named is None:
        raise InvalidInput(path, f"no choice {number}; expected one of {', '.join(type(default))}")
    return type(default)(named.name.removeprefix(f"{field.upper()}_"))


def write_alignment(view: JobView) -> pb.Alignment:
    """A job as its message."""
    job, last = view.job, view.job.events[-1]
    request = job.request
    message = pb.Alignment(
        job_id=job.job_id,
        state=f"JOB_STATE_{job.state.value}",
        model=vision_pb2.ModelVersion(
            name=request.model_name, version=request.model_version, digest=request.model_digest
        ),
        reason=last.reason,
        metrics_json=json.dumps(view.metrics) if view.metrics else "",
        created_at=wire.timestamp_to_proto(job.events[0].at),
        updated_at=wire.timestamp_to_proto(last.at),
        verdict_counts=view.verdict_counts,
        record_path=f"jobs/{job.job_id}",
        specification=wire.specification_to_proto(request.specification),
        mask_source=wire.mask_source_to_proto(request.mask_source),
        rules=map(wire.rule_to_proto, request.typed_rules),
        options=pb.AlignmentOptions(
            images_per_class=request.images_per_class,
            epochs=request.epochs,
            seed=request.seed,
            loss=f"LOSS_{request.loss.value}",
            selection=f"SELECTION_{request.selection.value}",
            criteria=pb.AcceptanceCriteria(**asdict(request.criteria)),
        ),
        submitter=request.submitter,
        priority=f"PRIORITY_{request.priority.value}",
        retry_of=request.retry_of,
        review=request.review,
    )
    if view.progress:
        progress = view.progress
        message.progress.CopyFrom(pb.Progress(**asdict(progress)))
    if job.state is JobState.PUBLISHED:
        message.published.CopyFrom(
            vision_pb2.ModelVersion(
                name=request.model_name, version=last.published_version, digest=last.published_digest
            )
        )
    return message

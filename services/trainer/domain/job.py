"""A job's states and the only ways between them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from services.common.runtime.errors import WrongState
from services.common.vision.class_specification import ClassSpecification
from services.common.vision.typed_rules import MaskSource, TypedRule
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.selection import Selection


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "QUEUED"
    CRITIQUING = "CRITIQUING"
    AWAITING_REVIEW = "AWAITING_REVIEW"
    TRAINING = "TRAINING"
    EVALUATING = "EVALUATING"
    PUBLISHED = "PUBLISHED"
    REJECTED = "REJECTED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]


_ENDS = frozenset({JobState.FAILED, JobState.CANCELLED})
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: _ENDS | {JobState.CRITIQUING},
    JobState.CRITIQUING: _ENDS | {JobState.AWAITING_REVIEW, JobState.TRAINING},
    JobState.AWAITING_REVIEW: _ENDS | {JobState.TRAINING},
    JobState.TRAINING: _ENDS | {JobState.EVALUATING, JobState.REJECTED},
    # Not CANCELLED: the challenger may be served already, and the record must not say otherwise.
    JobState.EVALUATING: frozenset({JobState.FAILED, JobState.PUBLISHED, JobState.REJECTED}),
    JobState.PUBLISHED: frozenset(),
    JobState.REJECTED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def check_transition(before: JobState, after: JobState) -> None:
    """Raise `WrongState` when a job can't go from `before` to `after`."""
    if after not in TRANSITIONS[before]:
        is_late = (before, after) == (JobState.EVALUATING, JobState.CANCELLED)
        why = ": it is being evaluated and published; too late to cancel" if is_late else ""
        raise WrongState(f"a job that is {before} can't become {after}{why}")


class Loss(StrEnum):
    """How the fine-tuning keeps the model from using what the masks cover (`domain/losses`)."""

    RRR = "RRR"
    R4 = "R4"
    MASK_OUT = "MASK_OUT"


class Priority(StrEnum):
    """Which jobs' steps are begun first: urgent, normal, batch."""

    NORMAL = "NORMAL"
    URGENT = "URGENT"
    BATCH = "BATCH"


class AlignmentRequest(BaseModel):
    """What was asked for, with the model resolved: an immutable part of the record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    idempotency_key: str = ""
    asked_digest: str
    """Digest of the request as it was sent: what "the same content" means for the key."""
    model_name: str
    model_version: int = Field(ge=1)
    model_digest: str
    labels: list[str]
    dataset_path: str
    specification: ClassSpecification
    images_per_class: int = Field(ge=1)
    epochs: int = Field(ge=1)
    seed: int = 0
    mask_source: MaskSource = MaskSource.JUDGED
    typed_rules: tuple[TypedRule, ...] = ()
    loss: Loss = Loss.RRR
    selection: Selection = Selection.LOW_ENTROPY_PER_CLASS
    criteria: Criteria = Criteria()
    priority: Priority = Priority.NORMAL
    submitter: str = ""
    retry_of: str = ""
    """The ended job whose request this is, if any."""
    review: bool = False
    """Whether a person reviews the critiques before the job trains."""

    @property
    def specification_digest(self) -> str:
        """Of all that the experts said: specification and confirmed rules, "sha256:<hex>"."""
        said = self.model_dump(mode="json", include={"specification", "typed_rules"})
        return f"sha256:{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()}"


class JobEvent(BaseModel):
    """One change of state."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: JobState
    at: datetime
    reason: str = ""
    caller: str = ""
    """Who asked for it, "" where that is not known."""
    published_version: int = 0
    published_digest: str = ""


@dataclass(frozen=True)
class Job:
    """A job as its record has it; `events` oldest first, at least one."""

    job_id: str
    request: AlignmentRequest
    events: tuple[JobEvent, ...]

    @property
    def state(self) -> JobState:
        return self.events[-1].state

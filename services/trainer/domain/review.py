"""What a person decides of a job's critiques, and which critiques count by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from services.common.vision.critique import Critique


class Decision(StrEnum):
    """Of one picture's critique: it counts, it does not, or another one counts instead."""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    EDIT = "EDIT"


class PictureDecision(BaseModel):
    """A decision on one picture; `edit` is the critique that counts instead, of EDIT alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_digest: str
    decision: Decision
    reason: str = ""
    edit: Critique | None = None


class Review(BaseModel):
    """An entry of a job's review. The last one has the critiques that were there when it was finished, by digest, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reviewer: str
    at: datetime
    decisions: tuple[PictureDecision, ...] = ()
    finished_with: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Standing:
    """The decision that counts for a picture, whose it is and when it was made."""

    decision: PictureDecision
    reviewer: str
    at: datetime


def is_finished(reviews: Sequence[Review]) -> bool:
    """Whether the review has ended."""
    return bool(reviews) and reviews[-1].finished_with is not None


def latest_decisions(reviews: Sequence[Review]) -> dict[str, Standing]:
    """What counts of `reviews`, oldest first, by picture: a person may change their mind."""
    return {
        decision.image_digest: Standing(decision, review.reviewer, review.at)
        for review in reviews
        for decision in review.decisions
    }


def effective_critiques(critiques: Sequence[Critique], reviews: Sequence[Review]) -> list[Critique]:
    """Those that train and measure: without the rejected ones and those that came after the review, edited ones as they were edited."""
    latest = latest_decisions(reviews)
    finished_with = reviews[-1].finished_with if is_finished(reviews) else None
    effective = []
    for critique in critiques:
        standing = latest.get(critique.image_digest)
        decision = standing.decision if standing else None
        is_late = finished_with is not None and critique.image_digest not in finished_with
        if is_late or (decision and decision.decision is Decision.REJECT):
            continue
        effective.append(decision.edit if decision and decision.edit else critique)
    return effective

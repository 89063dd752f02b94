"""The review stop: what people decide of a job's critiques before it trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from services.common.runtime.errors import InvalidInput, WrongState
from services.common.vision.critique import MAX_CRITIQUE_BYTES, Critique, Provenance
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import Decision, PictureDecision, Review, is_finished, latest_decisions
from services.trainer.handlers.checking import check_critique
from services.trainer.handlers.completing import EXPECTED, Completing
from services.trainer.ports import Archive

log = logging.getLogger(__name__)

MAX_DECISIONS = 1000
MAX_REVIEWER_LENGTH = 200
MAX_REASON_LENGTH = 2000
PERSON = "person"


@dataclass(frozen=True)
class AskedDecision:
    """A decision as it was sent; `edit` is the content of a critique without model and provenance, unchecked."""

    image_digest: str
    decision: Decision
    reason: str = ""
    edit: dict[str, Any] | None = None


@dataclass(frozen=True)
class ReviewCounts:
    """Critiqued pictures with and without a decision."""

    decided: int
    undecided: int


class Reviewing:
    """Keeps reviews, one immutable entry after the other, so that of two people who decide at once both are kept and one is later."""

    def __init__(self, archive: Archive, completing: Completing) -> None:
        self._archive = archive
        self._completing = completing

    def review(self, job_id: str, reviewer: str, decisions: Sequence[AskedDecision]) -> ReviewCounts:
        """Keep decisions, all of them or none.

        Raises
        ------
        NotFound
            When there is no such job.
        InvalidInput
            At the field at fault, such as `decisions[3].image_digest`.
        WrongState
            When the job does not await a review, or its review is finished.
        """
        job = self._archive.load(job_id)
        _check_reviewer(reviewer)
        if not 1 <= len(decisions) <= MAX_DECISIONS:
            raise InvalidInput("decisions", f"expected 1 to {MAX_DECISIONS}, got {len(decisions)}")
        _check_awaits(job)
        checked = self._check(job, reviewer, decisions)
        self._append(job, Review(reviewer=reviewer, at=datetime.now(UTC), decisions=checked))
        critiqued = self._archive.critiqued(job_id)
        decided = critiqued & set(latest_decisions(self._archive.reviews(job_id)))
        return ReviewCounts(len(decided), len(critiqued) - len(decided))

    def finish(self, job_id: str, reviewer: str, accept_rest: bool = False) -> None:
        """End the review and send the job to training. Again, it changes nothing.

        Raises
        ------
        NotFound
            When there is no such job.
        InvalidInput
            At `reviewer`.
        WrongState
            When the job does not await a review, or critiques without a decision are not to be accepted.
        """
        job = self._archive.load(job_id)
        _check_reviewer(reviewer)
        reviews = self._archive.reviews(job_id)
        while not is_finished(reviews):
            _check_awaits(job)
            critiqued = self._archive.critiqued(job_id)
            undecided = critiqued - set(latest_decisions(reviews))
            if undecided and not accept_rest:
                raise WrongState(
                    f"{len(undecided)} of {len(critiqued)} critiqued pictures have no decision; decide on them or set accept_rest"
                )
            last = Review(reviewer=reviewer, at=datetime.now(UTC), finished_with=tuple(sorted(critiqued)))
            # Not there: somebody decided at the same moment, and that counts.
            self._archive.add_review(job_id, len(reviews), last)
            reviews = self._archive.reviews(job_id)
        self._completing.send_when_complete(job_id)

    def _append(self, job: Job, review: Review) -> None:
        """Put `review` after the last entry, unless that one ends the review."""
        while True:
            reviews = self._archive.reviews(job.job_id)
            if is_finished(reviews):
                raise WrongState(f"{reviews[-1].reviewer} has finished the review of the job")
            if self._archive.add_review(job.job_id, len(reviews), review):
                return

    def _check(self, job: Job, reviewer: str, asked: Sequence[AskedDecision]) -> tuple[PictureDecision, ...]:
        expected = self._archive.read(job.job_id, EXPECTED) or {}
        critiqued = self._archive.critiqued(job.job_id)
        checked: dict[str, PictureDecision] = {}
        for index, decision in enumerate(asked):
            field, digest = f"decisions[{index}]", decision.image_digest
            if digest not in critiqued:
                raise InvalidInput(f"{field}.image_digest", f"job {job.job_id} has no critique of a picture '{digest}'")
            if digest in checked:
                raise InvalidInput(f"{field}.image_digest", "the picture is decided on twice")
            if len(decision.reason) > MAX_REASON_LENGTH:
                raise InvalidInput(f"{field}.reason", f"longer than {MAX_REASON_LENGTH} characters")
            if (decision.edit is None) is (decision.decision is Decision.EDIT):
                wants = "a critique" if decision.decision is Decision.EDIT else "none"
                raise InvalidInput(f"{field}.edit", f"expected {wants} with {decision.decision}")
            edit = None
            if decision.edit is not None:
                edit = _check_edit(f"{field}.edit", decision.edit, digest, job, reviewer, expected)
            checked[digest] = PictureDecision(
                image_digest=digest, decision=decision.decision, reason=decision.reason, edit=edit
            )
        return tuple(checked.values())


def _check_edit(
    field: str, edit: dict[str, Any], digest: str, job: Job, reviewer: str, expected: dict[str, Any]
) -> Critique:
    """The critique in `edit`, made by `reviewer` of the job's model; `InvalidInput` below `field` when it does not hold."""
    provenance = Provenance(engine=PERSON, model_id=reviewer).model_dump()
    content = edit | {"model_digest": job.request.model_digest, "provenance": provenance}
    try:
        critique = check_critique(content, job, expected)
    except InvalidInput as error:
        raise error.below(field) from error
    except ValidationError as error:
        raise InvalidInput.of_validation(field, error) from error
    if critique.image_digest != digest:
        raise InvalidInput(f"{field}.image_digest", f"expected {digest}, the picture that is decided on")
    if critique.byte_count > MAX_CRITIQUE_BYTES:
        raise InvalidInput(field, f"{critique.byte_count} bytes as JSON; at most {MAX_CRITIQUE_BYTES} are taken")
    return critique


def _check_reviewer(reviewer: str) -> None:
    if not reviewer.strip() or len(reviewer) > MAX_REVIEWER_LENGTH:
        raise InvalidInput("reviewer", f"expected a name of 1 to {MAX_REVIEWER_LENGTH} characters")


def _check_awaits(job: Job) -> None:
    if job.state != JobState.AWAITING_REVIEW:
        filed = "" if job.request.review else "; it was filed without a review"
        raise WrongState(
            f"the job is {job.state}; critiques are reviewed while it is {JobState.AWAITING_REVIEW}{filed}"
        )

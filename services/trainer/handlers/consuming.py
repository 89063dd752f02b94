"""Take critique batches in: check each critique, keep the good ones, set the rest aside with a reason."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from services.common.runtime.errors import InvalidInput, NotFound
from services.common.vision.critique import MAX_BATCH_BYTES, MAX_BATCH_CRITIQUES
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import is_finished
from services.trainer.handlers.checking import check_critique
from services.trainer.handlers.completing import EXPECTED, Completing
from services.trainer.ports import Archive, Lease

log = logging.getLogger(__name__)

_OPEN = (JobState.CRITIQUING, JobState.AWAITING_REVIEW)


class Outcome(StrEnum):
    """What became of a critique."""

    TAKEN = "TAKEN"
    ALREADY_THERE = "ALREADY_THERE"
    SET_ASIDE = "SET_ASIDE"


_AFTER_REVIEW = (Outcome.SET_ASIDE, "the review of the job is finished")


@dataclass(frozen=True)
class Consumed:
    """What became of a batch's critiques, in order, each with the reason why it was set aside; or the `fault` of the whole batch."""

    critiques: tuple[tuple[Outcome, str], ...] = ()
    fault: str = ""


class Consuming:
    """Takes what the LVLM service, a person or a tool says. Nothing in a batch is trusted."""

    def __init__(self, archive: Archive, completing: Completing, lease: Lease) -> None:
        self._archive = archive
        self._completing = completing
        self._lease = lease

    def consume(self, batch: Any) -> Consumed:
        """Keep a batch's critiques; a bad one is set aside and the rest goes on. The same batch again changes nothing."""
        job_id = batch.get("job_id") if isinstance(batch, dict) else None
        try:
            job = self._archive.load(job_id if isinstance(job_id, str) else "")
        except NotFound:
            fault = "names no job that is known"
            self._archive.set_aside("", batch, fault)
            log.warning("critique batch names no job")
            return Consumed(fault=fault)
        self._lease.touch(job.job_id)
        fault = _find_fault(batch)
        if fault:
            self._archive.set_aside(job.job_id, batch, fault)
            log.warning("critique batch set aside", extra={"job_id": job.job_id})
            return Consumed(fault=fault)
        expected = self._archive.read(job.job_id, EXPECTED) or {}
        consumed = tuple(self._consume_one(job, content, expected) for content in batch["critiques"])
        self._completing.send_when_complete(job.job_id)
        return Consumed(consumed)

    def push(self, batch: Any) -> tuple[tuple[Outcome, str], ...]:
        """`consume` for a caller who waits for the answer: what became of each critique, in order.

        Raises
        ------
        NotFound
            When there is no such job; nothing is kept.
        InvalidInput
            At `batch_json`, when the batch does not hold as a whole; it is set aside.
        """
        job_id = batch.get("job_id") if isinstance(batch, dict) else None
        if not isinstance(job_id, str):
            raise InvalidInput("batch_json", "expected an object with a job_id and critiques")
        self._archive.load(job_id)
        consumed = self.consume(batch)
        if consumed.fault:
            raise InvalidInput("batch_json", consumed.fault)
        return consumed.critiques

    def _consume_one(self, job: Job, content: Any, expected: dict[str, Any]) -> tuple[Outcome, str]:
        outcome, reason = self._take_in(job, content, expected)
        if outcome is Outcome.SET_ASIDE:
            self._archive.set_aside(job.job_id, content, reason)
            log.warning("critique set aside", extra={"job_id": job.job_id})
        return outcome, reason

    def _take_in(self, job: Job, content: Any, expected: dict[str, Any]) -> tuple[Outcome, str]:
        """Keep a critique; returns what became of it and, when it is to be set aside, why."""
        try:
            critique = check_critique(content, job, expected)
        except InvalidInput as error:
            return Outcome.SET_ASIDE, error.message
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            told = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
            return Outcome.SET_ASIDE, told
        kept = self._archive.critique(job.job_id, critique.image_digest)
        if kept is None:
            if job.state not in _OPEN:
                reason = f"the job is {job.state}; critiques are taken while it is {' or '.join(_OPEN)}"
                return Outcome.SET_ASIDE, reason
            if is_finished(self._archive.reviews(job.job_id)):
                return _AFTER_REVIEW
            if self._archive.add_critique(job.job_id, critique):
                # Somebody may have finished the review meanwhile, and what it does not name counts for nothing.
                reviews = self._archive.reviews(job.job_id)
                is_late = is_finished(reviews) and critique.image_digest not in reviews[-1].finished_with
                return _AFTER_REVIEW if is_late else (Outcome.TAKEN, "")
            kept = self._archive.critique(job.job_id, critique.image_digest)
        if kept == critique:
            return Outcome.ALREADY_THERE, ""
        hint = "; change it in the review: plumbline review --edit" if job.state == JobState.AWAITING_REVIEW else ""
        return Outcome.SET_ASIDE, f"the picture has another critique, and the first one counts{hint}"


def _find_fault(batch: dict[str, Any]) -> str:
    """What is wrong with the batch as a whole, empty when nothing is."""
    known = {"schema_version", "job_id", "critiques"}
    critiques = batch.get("critiques")
    if set(batch) - known:
        return f"unknown field {', '.join(sorted(map(str, set(batch) - known)))}; expected {', '.join(sorted(known))}"
    if batch.get("schema_version", 1) != 1:
        return "schema_version: expected 1"
    if not isinstance(critiques, list) or not 1 <= len(critiques) <= MAX_BATCH_CRITIQUES:
        return f"critiques: expected a list of 1 to {MAX_BATCH_CRITIQUES}"
    size_bytes = len(json.dumps(batch, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogatepass"))
    return f"{size_bytes} bytes; at most {MAX_BATCH_BYTES} are taken" if size_bytes > MAX_BATCH_BYTES else ""

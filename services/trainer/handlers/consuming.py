"""Take critique batches in: check each critique, keep the good ones, set the rest aside with a reason."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydantic import ValidationError

from services.common.runtime.errors import InvalidInput, NotFound
from services.common.vision.critique import MAX_BATCH_BYTES, MAX_BATCH_CRITIQUES, Critique, Verdict
from services.common.vision.masks import decode_mask
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.completing import EXPECTED, Completing
from services.trainer.ports import Archive, Lease

log = logging.getLogger(__name__)

_OPEN = (JobState.CRITIQUING, JobState.AWAITING_REVIEW)


class Consuming:
    """Takes what the LVLM service, a person or a tool says. Nothing in a batch is trusted."""

    def __init__(self, archive: Archive, completing: Completing, lease: Lease) -> None:
        self._archive = archive
        self._completing = completing
        self._lease = lease

    def consume(self, batch: Any) -> None:
        """Keep a batch's critiques; a bad one is set aside and the rest goes on. The same batch again changes nothing."""
        job_id = batch.get("job_id") if isinstance(batch, dict) else None
        try:
            job = self._archive.load(job_id if isinstance(job_id, str) else "")
        except NotFound:
            self._archive.set_aside("", batch, "names no job that is known")
            log.warning("critique batch names no job")
            return
        self._lease.touch(job.job_id)
        fault = _find_fault(batch)
        if fault:
            self._archive.set_aside(job.job_id, batch, fault)
            log.warning("critique batch set aside", extra={"job_id": job.job_id})
            return
        expected = self._archive.read(job.job_id, EXPECTED) or {}
        for content in batch["critiques"]:
            reason = self._take_in(job, content, expected)
            if reason:
                self._archive.set_aside(job.job_id, content, reason)
                log.warning("critique set aside", extra={"job_id": job.job_id})
        self._completing.send_when_complete(job.job_id)

    def _take_in(self, job: Job, content: Any, expected: dict[str, Any]) -> str:
        """Keep a critique; returns why it was not kept, empty when it was (or is there already, word for word)."""
        try:
            critique = _check(content, job, expected)
        except InvalidInput as error:
            return error.message
        except ValidationError as error:
            faults = error.errors(include_url=False, include_input=False)
            return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
        kept = self._archive.critique(job.job_id, critique.image_digest)
        if kept is None:
            if job.state not in _OPEN:
                return f"the job is {job.state}; critiques are taken while it is {' or '.join(_OPEN)}"
            if self._archive.add_critique(job.job_id, critique):
                return ""
            kept = self._archive.critique(job.job_id, critique.image_digest)
        return "" if kept == critique else "the picture has another critique, and the first one counts"


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


def _check(content: Any, job: Job, expected: dict[str, Any]) -> Critique:
    critique = Critique.model_validate(content)
    try:
        critique.model_dump_json()
    except ValueError as error:
        # Half a surrogate pair: JSON can escape it, nothing after us can carry it.
        raise InvalidInput("reasons", "a text is not Unicode") from error
    entry = expected.get(critique.image_digest)
    if entry is None:
        raise InvalidInput("image_digest", f"job {job.job_id} did not ask for this picture")
    if critique.model_digest != job.request.model_digest:
        raise InvalidInput("model_digest", f"expected {job.request.model_digest}, the model that the job aligns")
    if critique.image_id != entry["file_name"]:
        raise InvalidInput("image_id", f"expected '{entry['file_name']}', as the data set has it")
    if critique.true_label != entry["label"]:
        raise InvalidInput("true_label", f"expected '{entry['label']}', as the data set has it")
    _check_verdicts(critique, tuple(entry["size"]))
    return critique


def _check_verdicts(critique: Critique, size: tuple[int, int]) -> None:
    seen: set[int] = set()
    for index, verdict in enumerate(critique.verdicts):
        field = f"verdicts[{index}]"
        if verdict.segment_index in seen:
            raise InvalidInput(f"{field}.segment_index", f"segment {verdict.segment_index} is judged twice")
        seen.add(verdict.segment_index)
        # Before decoding: a few bytes can claim gigabytes of pixels.
        if verdict.mask.size != size:
            raise InvalidInput(f"{field}.mask.size", f"expected {list(size)}, the picture's height and width")
        decode_mask(verdict.mask.counts, *verdict.mask.size, f"{field}.mask")
        if critique.failure and verdict.verdict is not Verdict.FAILED:
            raise InvalidInput(f"{field}.verdict", "expected FAILED in a critique that says why it failed")

"""One check for every critique, whoever sent it and whichever way: the queue, a push, a person's edit."""

from __future__ import annotations

from typing import Any

from services.common.runtime.errors import InvalidInput
from services.common.vision.critique import Critique, Verdict
from services.common.vision.masks import decode_mask
from services.trainer.domain.job import Job


def check_critique(content: Any, job: Job, expected: dict[str, Any]) -> Critique:
    """The critique in `content`, of a picture in `expected` (`expected.json`).

    Raises
    ------
    ValidationError
        When it is no critique.
    InvalidInput
        At its field, when it does not fit the job.
    """
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

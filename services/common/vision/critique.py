"""The critique batch: the JSON that travels through Redis and lies in the record.

The LVLM service makes it; a person or an annotation tool may make it as well. `docs/critique-batch.schema.json` is this
module's schema, for those who do not read Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from services.common.runtime.errors import InvalidInput

MAX_BATCH_BYTES = 64 * 1024
MAX_BATCH_CRITIQUES = 32
MAX_SEGMENTS = 64
MAX_CRITIQUE_BYTES = MAX_BATCH_BYTES - 1024
"""Of one critique as JSON, so that it fits a batch of its own whatever the job is called."""


class Verdict(StrEnum):
    """What a segment is to the decision. Only SPURIOUS trains; UNSURE and FAILED never do."""

    SPURIOUS = "SPURIOUS"
    CORE = "CORE"
    UNSURE = "UNSURE"
    FAILED = "FAILED"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RleMask(_Message):
    """COCO run-length encoding (compressed) of a pixel set."""

    counts: str = Field(description="COCO compressed RLE counts")
    size: tuple[int, int] = Field(description="height and width in pixels")


def _is_unset(value: object) -> bool:
    return value is None


class SegmentVerdict(_Message):
    """One judged segment. Only `verdict` counts; the other two say how it came about and are left out where they are unset."""

    segment_index: int = Field(ge=1, le=MAX_SEGMENTS, description="number of the segment in the explanation, from 1")
    verdict: Verdict
    share: float = Field(ge=0, le=1, description="share of the positive evidence that the segment holds")
    mask: RleMask
    judged_verdict: Verdict | None = Field(
        default=None,
        exclude_if=_is_unset,
        description="what critic and judge said, where both ways were taken; for readers",
    )
    grounded_verdict: Verdict | None = Field(
        default=None, exclude_if=_is_unset, description="what the regions said, where both ways were taken; for readers"
    )


class Provenance(_Message):
    """What is needed to run the critique again. A person leaves `prompt_digest` empty."""

    engine: str = Field(description="transformers, openai, person, or the name of a tool")
    model_id: str = Field(description="model id as the engine names it, or the person's role")
    prompt_digest: str = ""
    seed: int = Field(default=0, ge=-(2**63), lt=2**63)


class Critique(_Message):
    """What was said of one picture."""

    image_id: str = Field(min_length=1, description="file name of the picture in the data set")
    image_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of the picture file's bytes")
    model_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="digest of the model that was explained")
    true_label: str = Field(min_length=1)
    reasons: str = Field(default="", description="the critic's words")
    verdicts: list[SegmentVerdict] = Field(default_factory=list, max_length=MAX_SEGMENTS)
    failure: str = Field(default="", description="why the picture FAILED; empty otherwise")
    provenance: Provenance

    @property
    def byte_count(self) -> int:
        """Length as JSON, in bytes."""
        return _byte_count(self)


class CritiqueBatch(_Message):
    """Up to 32 critiques for one job, at most 64 KiB as JSON."""

    schema_version: int = Field(default=1, ge=1, le=1)
    job_id: str = Field(min_length=1)
    critiques: list[Critique] = Field(min_length=1, max_length=MAX_BATCH_CRITIQUES)


def split_into_batches(job_id: str, critiques: Sequence[Critique]) -> list[CritiqueBatch]:
    """`critiques` in batches that keep both caps.

    Raises
    ------
    InvalidInput
        At `critiques[i]`, when that one alone is over the byte cap: its reasons are too long or its masks too ragged.
    """
    batches: list[CritiqueBatch] = []
    current: list[Critique] = []
    size = 0
    # Bytes, not characters: reasons may be in any language. One byte a critique is for its comma.
    room = MAX_BATCH_BYTES - _byte_count(CritiqueBatch.model_construct(job_id=job_id, critiques=[]))
    for index, critique in enumerate(critiques):
        length = _byte_count(critique) + 1
        if length > room:
            raise InvalidInput(
                f"critiques[{index}]", f"{length} bytes as JSON; at most {room} fit a batch of {MAX_BATCH_BYTES}"
            )
        if current and (len(current) == MAX_BATCH_CRITIQUES or size + length > room):
            batches.append(CritiqueBatch(job_id=job_id, critiques=current))
            current, size = [], 0
        current.append(critique)
        size += length
    if current:
        batches.append(CritiqueBatch(job_id=job_id, critiques=current))
    return batches


def _byte_count(message: _Message) -> int:
    return len(message.model_dump_json().encode())

"""The critique batch: the JSON that travels through Redis and lies in the record.

The LVLM service makes it; a person or an annotation tool may make it as well. `docs/critique-batch.schema.json` is this
module's schema, for those who do not read Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

MAX_BATCH_BYTES = 64 * 1024
MAX_BATCH_CRITIQUES = 32


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


class SegmentVerdict(_Message):
    """One judged segment."""

    segment_index: int = Field(ge=1, description="number of the segment in the explanation, from 1")
    verdict: Verdict
    share: float = Field(ge=0, le=1, description="share of the positive evidence that the segment holds")
    mask: RleMask


class Provenance(_Message):
    """What is needed to run the critique again. A person leaves `prompt_digest` empty."""

    engine: str = Field(description="transformers, openai, person, or the name of a tool")
    model_id: str = Field(description="model id as the engine names it, or the person's role")
    prompt_digest: str = ""
    seed: int = 0


class Critique(_Message):
    """What was said of one picture."""

    image_id: str = Field(min_length=1, description="file name of the picture in the data set")
    image_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="SHA-256 of the picture file's bytes")
    model_digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", description="digest of the model that was explained")
    true_label: str = Field(min_length=1)
    reasons: str = Field(default="", description="the critic's words")
    verdicts: list[SegmentVerdict] = Field(default_factory=list, max_length=64)
    failure: str = Field(default="", description="why the picture FAILED; empty otherwise")
    provenance: Provenance


class CritiqueBatch(_Message):
    """Up to 32 critiques for one job, at most 64 KiB as JSON."""

    schema_version: int = Field(default=1, ge=1, le=1)
    job_id: str = Field(min_length=1)
    critiques: list[Critique] = Field(min_length=1, max_length=MAX_BATCH_CRITIQUES)


def split_into_batches(job_id: str, critiques: Sequence[Critique]) -> list[CritiqueBatch]:
    """`critiques` in batches that keep both caps.

    Raises
    ------
    ValueError
        When a single critique is over the byte cap.
    """
    batches: list[CritiqueBatch] = []
    current: list[Critique] = []
    size = 0
    for critique in critiques:
        length = len(critique.model_dump_json()) + 1
        if length > MAX_BATCH_BYTES - 512:
            raise ValueError(
                f"critique of {critique.image_id} has {length} bytes; at most {MAX_BATCH_BYTES - 512} fit a batch"
            )
        if current and (len(current) == MAX_BATCH_CRITIQUES or size + length > MAX_BATCH_BYTES - 512):
            batches.append(CritiqueBatch(job_id=job_id, critiques=current))
            current, size = [], 0
        current.append(critique)
        size += length
    if current:
        batches.append(CritiqueBatch(job_id=job_id, critiques=current))
    return batches

"""Critiques in batches as the trainer takes them."""

from __future__ import annotations

import json
from typing import Any

from plumbline.labelling.gallery import Findings

MAX_BATCH_BYTES = 64 * 1024
MAX_BATCH_CRITIQUES = 32


def split_batches(job_id: str, findings: Findings) -> list[str]:
    """The critiques as JSON batches of the job, in order; one that fits none joins `findings.faults`."""
    room = MAX_BATCH_BYTES - len(_dump({"job_id": job_id, "critiques": []}).encode())
    batches: list[list[Any]] = []
    size = 0
    for critique in findings.critiques:
        length = len(_dump(critique).encode(errors="surrogatepass")) + 1
        if length > room:
            findings.faults.append((_name(critique), f"{length} bytes as JSON; at most {room} fit a batch"))
            continue
        if not batches or len(batches[-1]) == MAX_BATCH_CRITIQUES or size + length > room:
            batches.append([])
            size = 0
        batches[-1].append(critique)
        size += length
    return [_dump({"job_id": job_id, "critiques": batch}, is_ascii=True) for batch in batches]


def _name(critique: Any) -> str:
    name = critique.get("image_id") if isinstance(critique, dict) else None
    return name if isinstance(name, str) else "a critique"


def _dump(content: Any, is_ascii: bool = False) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=is_ascii)

"""Critiques from a file or folder, whatever of the known forms it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from plumbline.errors import PlumblineError
from plumbline.labelling.coco import is_coco, read_coco
from plumbline.labelling.gallery import Findings, Gallery
from plumbline.labelling.png_masks import read_masks


def read_critiques(path: Path, job_id: str, gallery: Gallery) -> Findings:
    """What `path` says of the job's pictures: a folder of masks, COCO annotations, or batches of our own.

    Raises
    ------
    PlumblineError
        When it is none of these, or speaks for another job.
    """
    if path.is_dir():
        return read_masks(path, gallery)
    content = load_json(path)
    if is_coco(content):
        return read_coco(content, gallery)
    return Findings(read_batches(path, content, job_id))


def load_json(path: Path) -> Any:
    """What a JSON file holds; `PlumblineError` when it is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise PlumblineError(f"{path}: not JSON: {error}") from error


def read_batches(path: Path, content: Any, job_id: str) -> list[Any]:
    """The critiques of one batch or of a list of them, unchecked: the trainer says what it thinks of each."""
    critiques: list[Any] = []
    for batch in content if isinstance(content, list) else [content]:
        if not isinstance(batch, dict) or not isinstance(batch.get("critiques"), list):
            raise PlumblineError(
                f"{path}: expected a critique batch, a list of them (docs/critique-batch.schema.json), or COCO annotations"
            )
        if batch.get("job_id") != job_id:
            raise PlumblineError(f"{path}: job_id: speaks for job {batch.get('job_id')!r}, not for {job_id}")
        if batch.get("schema_version", 1) != 1:
            raise PlumblineError(f"{path}: schema_version: expected 1")
        critiques += batch["critiques"]
    return critiques

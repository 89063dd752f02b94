"""JSON in a language model's answer, read strictly: nothing cut off, no key twice."""

from __future__ import annotations

import json
import re
from typing import Any

from services.common.runtime.errors import BadModelOutput

_MAX_QUOTED = 60


def read_last_object(answer: str, shape: re.Pattern[str], whose: str) -> dict[str, Any]:
    """The last object of `shape` in an answer; prose around it is let be. `whose` begins what is told: "the judge's".

    Raises
    ------
    BadModelOutput
        When there is none, another one begins after it and is cut off, or it can't be read.
    """
    objects = list(shape.finditer(answer))
    if not objects:
        raise BadModelOutput(f"{whose} answer holds no JSON object of that form")
    if "{" in answer[objects[-1].end() :]:
        raise BadModelOutput(f"{whose} last JSON object is cut off")
    try:
        return json.loads(objects[-1][0], object_pairs_hook=refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise BadModelOutput(f"{whose} JSON can't be read: {quote(error)}") from error


def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An `object_pairs_hook` that raises `ValueError` for a key that stands twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def quote(words: object) -> str:
    """A language model's words in a failure: cut, because the failure is stored, and only what UTF-8 holds."""
    text = str(words)
    told = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
    return told.encode(errors="backslashreplace").decode()

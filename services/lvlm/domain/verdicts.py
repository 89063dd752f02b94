"""The judge's answer: one verdict per segment as JSON, read strictly."""

from __future__ import annotations

import json
import re
from typing import Any

from services.common.runtime.errors import BadModelOutput
from services.common.vision.critique import Verdict

ALLOWED = (Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_MAX_QUOTED = 60


def verdict_schema(segment_count: int) -> dict[str, Any]:
    """JSON schema of a well-formed answer: every segment, nothing else."""
    names = [str(number) for number in range(1, segment_count + 1)]
    return {
        "type": "object",
        "properties": {name: {"type": "string", "enum": [verdict.value for verdict in ALLOWED]} for name in names},
        "required": names,
        "additionalProperties": False,
    }


def read_verdicts(answer: str, segment_count: int) -> list[Verdict]:
    """Verdicts of segments 1, 2, … in order. The last JSON object of the answer counts; prose around it is let be.

    Raises
    ------
    BadModelOutput
        When there is no such object, a segment is missing or unknown, or a word is no verdict. Never an empty list instead.
    """
    objects = list(_OBJECT.finditer(answer))
    if not objects:
        raise BadModelOutput("the judge's answer holds no JSON object")
    if "{" in answer[objects[-1].end() :]:
        raise BadModelOutput("the judge's last JSON object is cut off")
    try:
        found = json.loads(objects[-1][0], object_pairs_hook=_refuse_doubles)
    except (ValueError, RecursionError) as error:
        raise BadModelOutput(f"the judge's JSON can't be read: {_quote(error)}") from error
    names = [str(number) for number in range(1, segment_count + 1)]
    if sorted(found) != sorted(names):
        raise BadModelOutput(f"the judge named segments {_quote(', '.join(found))}; expected 1 to {segment_count}")
    for name in names:
        if found[name] not in [verdict.value for verdict in ALLOWED]:
            raise BadModelOutput(f"segment {name}: {_quote_value(found[name])} is no verdict")
    return [Verdict(found[name]) for name in names]


def _quote_value(value: object) -> str:
    """A word as it stands; anything else by its kind, for nothing says how deep it is."""
    return f"'{_quote(value)}'" if isinstance(value, str) else type(value).__name__


def _quote(words: object) -> str:
    """The judge's words in a failure: cut, because the failure is stored, and only what UTF-8 holds."""
    text = str(words)
    told = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
    return told.encode(errors="backslashreplace").decode()


def _refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError("a segment is named twice")
    return dict(pairs)

"""The judge's answer: one verdict per segment as JSON, read strictly."""

from __future__ import annotations

import re
from typing import Any

from services.common.runtime.errors import BadModelOutput
from services.common.vision.critique import Verdict
from services.lvlm.domain.json_answers import quote, read_last_object

ALLOWED = (Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE)
_OBJECT = re.compile(r"\{[^{}]*\}")


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
    found = read_last_object(answer, _OBJECT, "the judge's")
    names = [str(number) for number in range(1, segment_count + 1)]
    if sorted(found) != sorted(names):
        raise BadModelOutput(f"the judge named segments {quote(', '.join(found))}; expected 1 to {segment_count}")
    for name in names:
        if found[name] not in [verdict.value for verdict in ALLOWED]:
            raise BadModelOutput(f"segment {name}: {_quote_value(found[name])} is no verdict")
    return [Verdict(found[name]) for name in names]


def _quote_value(value: object) -> str:
    """A word as it stands; anything else by its kind, for nothing says how deep it is."""
    return f"'{quote(value)}'" if isinstance(value, str) else type(value).__name__

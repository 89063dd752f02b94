"""Boxes as a JSON list of objects, `[{"bbox_2d": [1, 2, 3, 4]}]`, read strictly: nothing around it but one code fence, nothing left out."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.coordinates.family import MAX_BOXES, UnknownPhrase
from services.lvlm.domain.json_answers import refuse_doubles

UNCLEAR = "unclear"
"""What a model answers that does not know the phrase: our prompts ask for this word."""
MAX_LENGTH = 16_384
_FENCE = re.compile(r"```(?:json)?\s*(?P<inside>[^`]*)```")
"""Models of the Qwen family write their boxes so where no schema holds them."""


def box_schema(key: str) -> dict[str, Any]:
    """JSON schema of an answer: up to `MAX_BOXES` boxes under `key`, or the word for not knowing."""
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
    box = {"type": "object", "properties": {key: numbers}, "required": [key], "additionalProperties": False}
    boxes = {"type": "array", "items": box, "maxItems": MAX_BOXES}
    return {"anyOf": [boxes, {"type": "string", "enum": [UNCLEAR]}]}


def read_json_boxes(answer: str, key: str) -> list[list[float]]:
    """The four numbers under `key` of every object, in order. Other keys, such as a label, are let be.

    Raises
    ------
    UnknownPhrase
        When the answer is the word for not knowing.
    BadModelOutput
        When it is anything else than one JSON list of such objects.
    """
    text = answer.strip()
    if text.strip('"').lower() == UNCLEAR:
        raise UnknownPhrase("the language model does not know the phrase")
    if len(text) > MAX_LENGTH:
        raise BadModelOutput(f"{len(text)} characters instead of boxes")
    fenced = _FENCE.fullmatch(text)
    try:
        found = json.loads(
            fenced["inside"] if fenced else text, parse_constant=_refuse_constant, object_pairs_hook=refuse_doubles
        )
    except (ValueError, RecursionError) as error:
        raise BadModelOutput(f"no JSON list of boxes: {error}") from error
    if not isinstance(found, list):
        raise BadModelOutput(f"expected a JSON list of boxes, got {type(found).__name__}")
    return [_read_box(entry, key) for entry in found]


def _read_box(entry: object, key: str) -> list[float]:
    box = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(type(value) in (int, float) for value in box):
        raise BadModelOutput(f'expected objects with four numbers under "{key}"')
    return box


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")

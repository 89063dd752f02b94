"""Boxes as runs of four location tokens with a phrase before or after, as PaliGemma and Florence-2 write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from services.common.runtime.errors import BadModelOutput

MAX_LENGTH = 16_384


def read_location_tokens(answer: str, token: re.Pattern[str], last: int) -> list[Sequence[int]]:
    """The numbers of every run of four tokens; `token` has the number as its group, `last` is the largest there is.

    Raises
    ------
    BadModelOutput
        When there is none, a run is not of four, a number is over `last`, or the text between them holds another token.
    """
    if len(answer) > MAX_LENGTH:
        raise BadModelOutput(f"{len(answer)} characters instead of boxes")
    runs = [
        [int(number) for number in token.findall(run.group())]
        for run in re.finditer(rf"(?:{token.pattern})+", answer.strip())
    ]
    if not runs:
        raise BadModelOutput("the answer holds no location tokens; this family has no words for absent")
    if "<" in token.sub("", answer):
        raise BadModelOutput("the answer holds tokens that are no locations")
    if any(len(run) != 4 for run in runs):
        raise BadModelOutput("expected four location tokens for a box")
    if any(number > last for run in runs for number in run):
        raise BadModelOutput(f"a location over {last}")
    return runs

"""Few-shot examples for the judge, which users write: a critic's words and the verdicts that follow from them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.lvlm.domain.panels import MAX_SEGMENT_COUNT
from services.lvlm.domain.quoting import as_json
from services.lvlm.domain.verdicts import ALLOWED

_SEGMENT = re.compile(r"\bsegment\s+(\d{1,3})\b", re.IGNORECASE)


@dataclass(frozen=True)
class JudgeExample:
    """A critic's words and the verdicts of segments 1, 2, … in order."""

    critic: str
    verdicts: tuple[str, ...]

    @property
    def text(self) -> str:
        """As the judge's prompt shows it: the critic quoted as it will be, the answer as it is to be."""
        answer = {str(number): verdict for number, verdict in enumerate(self.verdicts, start=1)}
        return f"Example. Critic: {as_json(self.critic)}\nAnswer: {json.dumps(answer)}"


def read_examples(content: Any) -> list[JudgeExample]:
    """Examples from the content of an examples file, `{judge: [{critic: …, verdicts: […]}, …]}`.

    Raises
    ------
    ValueError
        Names the entry and what is wrong with it.
    """
    if not isinstance(content, dict) or set(content) != {"judge"}:
        raise ValueError("expected one key, 'judge', with a list of examples")
    if not isinstance(content["judge"], list) or not content["judge"]:
        raise ValueError("judge: expected a list of examples")
    return [_read_example(entry, f"judge[{index}]") for index, entry in enumerate(content["judge"])]


def render_examples(examples: Sequence[JudgeExample]) -> str:
    """The examples as they stand in a prompt, a blank line between them."""
    return "\n\n".join(example.text for example in examples)


def _read_example(entry: Any, place: str) -> JudgeExample:
    if not isinstance(entry, dict) or set(entry) != {"critic", "verdicts"}:
        raise ValueError(f"{place}: expected the keys 'critic' and 'verdicts'")
    critic, verdicts = entry["critic"], entry["verdicts"]
    if not isinstance(critic, str) or not critic.strip():
        raise ValueError(f"{place}.critic: expected the critic's words")
    if not isinstance(verdicts, list) or not 1 <= len(verdicts) <= MAX_SEGMENT_COUNT:
        raise ValueError(f"{place}.verdicts: expected a list of 1 to {MAX_SEGMENT_COUNT} verdicts")
    words = [verdict.value for verdict in ALLOWED]
    for number, verdict in enumerate(verdicts, start=1):
        if verdict not in words:
            raise ValueError(
                f"{place}.verdicts: segment {number}: {verdict!r} is no verdict; one of {', '.join(words)}"
            )
    named = [int(number) for number in _SEGMENT.findall(critic)]
    if named and not 1 <= min(named) <= max(named) <= len(verdicts):
        raise ValueError(
            f"{place}: the critic speaks of segments {min(named)} to {max(named)}; {len(verdicts)} have a verdict"
        )
    return JudgeExample(critic, tuple(verdicts))

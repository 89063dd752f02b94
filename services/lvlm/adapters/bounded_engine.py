"""An `Engine` around another: answers are text of bounded length, and they and refusals can be stored and sent."""

from __future__ import annotations

import re

from services.common.runtime.errors import BadModelOutput
from services.lvlm.ports import Engine, Question

MAX_ANSWER_LENGTH = 32_768
"""Characters. The longest answer that a prompt asks for is 900 tokens; a server that ignores the limit must not fill memory and queues."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class BoundedEngine:
    """Refuses answers that are too long; half characters in answers and refusals, which no UTF-8 holds, become U+FFFD."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.model_id = engine.model_id

    async def answer(self, question: Question) -> str:
        """See the port."""
        try:
            text = await self._engine.answer(question)
        except BadModelOutput as refusal:  # its message may quote a server, and is stored with the critique
            raise BadModelOutput(_make_whole(refusal.message)) from refusal
        if len(text) > MAX_ANSWER_LENGTH:
            raise BadModelOutput(f"the answer has {len(text)} characters; at most {MAX_ANSWER_LENGTH} are read")
        return _make_whole(text)


def _make_whole(text: str) -> str:
    return _LONE_SURROGATE.sub("\ufffd", text)

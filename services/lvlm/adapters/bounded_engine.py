"""An `Engine` around another: answers are text of bounded length that can be stored and sent, or no answers."""

from __future__ import annotations

import re

from services.common.runtime.errors import BadModelOutput
from services.lvlm.ports import Engine, Question

MAX_ANSWER_LENGTH = 32_768
"""Characters. The longest answer that a prompt asks for is 900 tokens; a server that ignores the limit must not fill memory and queues."""
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class BoundedEngine:
    """Refuses answers that are too long; half characters, which no UTF-8 holds, become U+FFFD."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.model_id = engine.model_id

    async def answer(self, question: Question) -> str:
        """See the port."""
        text = await self._engine.answer(question)
        if len(text) > MAX_ANSWER_LENGTH:
            raise BadModelOutput(f"the answer has {len(text)} characters; at most {MAX_ANSWER_LENGTH} are read")
        return _LONE_SURROGATE.sub("\ufffd", text)

"""An `Engine` around another: counts what became of questions, times them and traces them."""

from __future__ import annotations

import asyncio

from services.common.runtime.errors import ServiceError
from services.common.runtime.traces import span
from services.lvlm import metrics
from services.lvlm.ports import Engine, Question


class MeteredEngine:
    """Answers as `engine` does, under its name."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.model_id = engine.model_id

    async def answer(self, question: Question) -> str:
        """See the port."""
        outcome = "BUG"
        with metrics.QUESTIONS_OPEN.track_inprogress(), metrics.ANSWER_SECONDS.time():
            try:
                with span("lvlm/answer", attempt=question.attempt):
                    answer = await self._engine.answer(question)
                outcome = "ANSWERED"
                return answer
            except asyncio.CancelledError:
                outcome = "CANCELLED"
                raise
            except ServiceError as error:
                outcome = error.kind
                raise
            finally:
                metrics.QUESTIONS.labels(outcome).inc()

"""Hand-written fakes of our own ports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.vision.critique import CritiqueBatch
from services.lvlm.ports import Question


class ScriptedEngine:
    """Answers as `script` says: a function of the question. Keeps the questions."""

    name = "scripted"
    model_id = "script"

    def __init__(self, script: Callable[[Question], str]) -> None:
        self._script = script
        self.questions: list[Question] = []

    async def answer(self, question: Question) -> str:
        self.questions.append(question)
        return self._script(question)


class ListSink:
    """Keeps batches in a list."""

    def __init__(self) -> None:
        self.batches: list[CritiqueBatch] = []

    async def publish(self, batches: Sequence[CritiqueBatch]) -> None:
        self.batches += batches

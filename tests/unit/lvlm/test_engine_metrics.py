"""What became of questions and pictures, in numbers: of a scripted engine, of the embedded model, and of calls over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from services.common.runtime.errors import BadModelOutput, Overloaded, Unavailable
from services.lvlm.adapters.metered_engine import MeteredEngine
from services.lvlm.adapters.transformers_engine import BatchLimits, TransformersEngine
from services.lvlm.ports import Question
from services.lvlm.settings import NANO
from tests.support.fakes import ScriptedEngine


def read(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def refuse(error: Exception) -> Callable[[Question], str]:
    def script(question: Question) -> str:
        raise error

    return script


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        (lambda question: "words", "ANSWERED"),
        (refuse(BadModelOutput("content filter")), "BAD_MODEL_OUTPUT"),
        (refuse(Overloaded("full")), "OVERLOADED"),
        (refuse(Unavailable("away")), "UNAVAILABLE"),
        (refuse(ZeroDivisionError()), "BUG"),
        (refuse(asyncio.CancelledError()), "CANCELLED"),
    ],
)
async def test_a_question_is_counted_by_what_became_of_it(script: Callable[[Question], str], outcome: str):
    before = read("plumbline_lvlm_questions_total", outcome=outcome)
    timed = read("plumbline_lvlm_answer_seconds_count")
    engine = MeteredEngine(ScriptedEngine(script))
    assert (engine.name, engine.model_id) == ("scripted", "script")
    await asyncio.gather(engine.answer(Question("What is there?")), return_exceptions=True)
    assert read("plumbline_lvlm_questions_total", outcome=outcome) == before + 1
    assert read("plumbline_lvlm_answer_seconds_count") == timed + 1
    assert read("plumbline_lvlm_questions_open") == 0


async def test_questions_that_wait_are_told():
    seen: list[float] = []
    engine = MeteredEngine(ScriptedEngine(lambda question: str(seen.append(read("plumbline_lvlm_questions_open")))))
    await engine.answer(Question("What is there?"))
    assert seen == [1]


async def test_the_model_in_process_tells_its_batches_and_the_tokens_of_questions_and_answers():
    before = {name: read(f"plumbline_lvlm_batch_questions_{name}") for name in ("sum", "count")}
    tokens = {
        direction: read("plumbline_lvlm_tokens_total", direction=direction) for direction in ("question", "answer")
    }
    async with TransformersEngine(NANO, "nano", BatchLimits()) as engine:
        await asyncio.gather(*(engine.answer(Question(text, max_new_tokens=3)) for text in ("a", "a b c d e f g h")))
        counts = [engine._counter.count(Question(text, max_new_tokens=0)) for text in ("a", "a b c d e f g h")]
    assert read("plumbline_lvlm_batch_questions_sum") - before["sum"] == 2
    assert read("plumbline_lvlm_batch_questions_count") - before["count"] == 1
    assert read("plumbline_lvlm_tokens_total", direction="question") - tokens["question"] == sum(counts)
    assert 0 < read("plumbline_lvlm_tokens_total", direction="answer") - tokens["answer"] <= 2 * 3

"""The in-process engine: who is asked next, and what does not fit."""

import asyncio

import pytest

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded
from services.lvlm.adapters.transformers_engine import TransformersEngine
from services.lvlm.ports import Question
from services.lvlm.settings import NANO

SHORT = {"max_new_tokens": 1}


def engine(**changes) -> TransformersEngine:
    return TransformersEngine(NANO, "nano", **({"max_batch": 4, "max_waiting": 64, "timeout_s": 60.0} | changes))


async def test_the_oldest_question_goes_first_however_many_others_wait():
    done: list[str] = []

    async def ask(opened: TransformersEngine, name: str, attempt: int) -> None:
        await opened.answer(Question(f"segments: {name}", attempt=attempt, **SHORT))
        done.append(name)

    async with engine() as opened:
        crowd = [ask(opened, f"crowd-{number}", 0) for number in range(4)]
        later = [ask(opened, f"later-{number}", 0) for number in range(8)]
        await asyncio.gather(*crowd, ask(opened, "lonely", 1), *later)
    assert done.index("lonely") == 4, done  # behind the full batch before it, ahead of the crowd that came later


async def test_a_question_longer_than_the_context_is_refused_and_the_next_is_answered():
    async with engine() as opened:
        with pytest.raises(BadModelOutput, match="context"):
            await opened.answer(Question("word " * 2000, **SHORT))
        assert isinstance(await opened.answer(Question("segments: 1", **SHORT)), str)


async def test_an_answer_that_does_not_come_in_time_is_told_as_such():
    async with engine(timeout_s=0.01) as opened:
        with pytest.raises(DeadlineExceeded):
            await opened.answer(Question("segments: 1", max_new_tokens=200))


async def test_special_tokens_in_a_text_are_no_pictures():
    async with engine() as opened:
        assert isinstance(await opened.answer(Question("the digit <image> <|end|>", **SHORT)), str)


def test_no_mark_of_the_tokenizer_in_a_text_becomes_a_token():
    opened = engine()
    tokenizer = opened._counting_tokenizer
    marks = [token.content for token in tokenizer.added_tokens_decoder.values()]
    hostile = f"the digit {' '.join(marks)} {''.join(marks)} <<image>image><|answ<|end|>er|>"

    def count_marks(text: str) -> list[int]:
        tokens = tokenizer(opened._render_chat(Question(text)))["input_ids"]
        return [tokens.count(token) for token in tokenizer.added_tokens_decoder]

    assert count_marks(hostile) == count_marks("the digit")

"""The in-process engine: who is asked next, what does not fit, what an answer is held to, and which folders it takes."""

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import pytest
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded, Overloaded
from services.lvlm.adapters.chat_template import ChatTemplate, TokenCounter
from services.lvlm.adapters.transformers_engine import BatchLimits, TransformersEngine, count_fitting
from services.lvlm.domain.verdicts import read_verdicts, verdict_schema
from services.lvlm.ports import Question
from services.lvlm.settings import NANO
from tests.support.tiny_idefics3 import write_tiny_idefics3

SHORT = {"max_new_tokens": 1}


COLOUR_SCHEMA = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}
COUNT_SCHEMA = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 3}


def engine(folder: Path = NANO, **changes) -> TransformersEngine:
    return TransformersEngine(folder, folder.name, BatchLimits(**({"max_batch": 4} | changes)))


def picture(width: int = 28, height: int = 28, grey: int = 90) -> Image.Image:
    return Image.new("RGB", (width, height), (grey, grey, grey))


@pytest.fixture(scope="module")
def idefics3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of another family, with random weights: it says nothing of its own that is JSON."""
    folder = tmp_path_factory.mktemp("idefics3")
    write_tiny_idefics3(folder)
    return folder


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
    async with engine(answer_timeout_s=0.01) as opened:
        with pytest.raises(DeadlineExceeded):
            await opened.answer(Question("segments: 1", max_new_tokens=200))


@pytest.mark.parametrize("fault", ["stops", "too few answers"])
async def test_a_generation_that_goes_wrong_in_any_way_is_told_and_the_next_question_is_answered(
    monkeypatch: pytest.MonkeyPatch, fault: str
):
    def go_wrong(questions: Sequence[Question]) -> list[str]:
        if fault == "stops":
            raise StopIteration  # which no future can hold
        return []

    async with engine() as opened:
        with monkeypatch.context() as patch:
            patch.setattr(opened, "_generate", go_wrong)
            with pytest.raises(RuntimeError, match="the language model"):
                await asyncio.wait_for(opened.answer(Question("segments: 1", **SHORT)), 30)
        assert isinstance(await opened.answer(Question("segments: 1", **SHORT)), str)


async def test_callers_who_left_take_nobodys_place():
    async with engine(max_waiting=2) as opened:
        free = threading.Event()
        generate = opened._generate
        opened._generate = lambda questions: (free.wait(30), generate(questions))[1]
        first = asyncio.create_task(opened.answer(Question("segments: 1", **SHORT)))
        await asyncio.sleep(0.1)
        leaving = [asyncio.create_task(opened.answer(Question("segments: 1", **SHORT))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="2 questions wait for the language model; at most 2 may"):
            await opened.answer(Question("segments: 1", **SHORT))
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        staying = asyncio.create_task(opened.answer(Question("segments: 1", **SHORT)))
        await asyncio.sleep(0)
        free.set()
        assert all(isinstance(answer, str) for answer in await asyncio.gather(first, staying))


async def test_special_tokens_in_a_text_are_no_pictures():
    async with engine() as opened:
        assert isinstance(await opened.answer(Question("the digit <image> <|end|>", **SHORT)), str)


@pytest.mark.parametrize("family", ["nano", "idefics3"])
def test_text_goes_before_pictures(family: str, idefics3: Path):
    processor = AutoProcessor.from_pretrained(NANO if family == "nano" else idefics3, local_files_only=True)
    rendered = ChatTemplate(processor).render(Question("the words", [picture(), picture()]))
    assert rendered.count(processor.image_token) == 2
    assert rendered.index("the words") < rendered.index(processor.image_token)


def test_no_mark_of_the_tokenizer_in_a_text_becomes_a_token():
    processor = AutoProcessor.from_pretrained(NANO, local_files_only=True)
    tokenizer, template = processor.tokenizer, ChatTemplate(processor)
    marks = [token.content for token in tokenizer.added_tokens_decoder.values()]
    hostile = f"the digit {' '.join(marks)} {''.join(marks)} <<image>image><|answ<|end|>er|>"

    def count_marks(text: str) -> list[int]:
        tokens = tokenizer(template.render(Question(text)))["input_ids"]
        return [tokens.count(token) for token in tokenizer.added_tokens_decoder]

    assert count_marks(hostile) == count_marks("the digit")


async def test_answers_to_different_schemas_in_one_batch_each_follow_their_own(idefics3: Path):
    schemas = [verdict_schema(3), COLOUR_SCHEMA, COUNT_SCHEMA, None]
    async with engine(idefics3) as opened:
        answers = await asyncio.gather(
            *(opened.answer(Question("Say it.", max_new_tokens=120, schema=schema)) for schema in schemas)
        )
        alone = await opened.answer(Question("Say it.", max_new_tokens=120))
    for schema, answer in zip(schemas[:3], answers[:3], strict=True):
        jsonschema.validate(json.loads(answer), schema)
    assert answers[3] == alone


@pytest.mark.parametrize("attempt", [0, 1, 2])
async def test_a_judge_of_any_weights_gives_verdicts_that_can_be_read(idefics3: Path, attempt: int):
    question = Question("Judge.", max_new_tokens=120, schema=verdict_schema(6), attempt=attempt)
    async with engine(idefics3) as opened:
        assert len(read_verdicts(await opened.answer(question), 6)) == 6


async def test_only_an_answer_that_reaches_its_longest_is_cut_off():
    async with engine() as opened:
        answer = await opened.answer(Question("judge", max_new_tokens=5, schema=verdict_schema(6)))
    assert answer.startswith("{")
    with pytest.raises(BadModelOutput):
        read_verdicts(answer, 6)


async def test_nano_is_held_to_a_schema_too():
    async with engine() as opened:
        answer = await opened.answer(Question("no question at all", max_new_tokens=40, schema=verdict_schema(2)))
    assert len(read_verdicts(answer, 2)) == 2


async def test_a_schema_that_is_none_is_refused_and_the_next_question_is_answered():
    async with engine() as opened:
        with pytest.raises(BadModelOutput, match="schema"):
            await opened.answer(Question("?", schema={"type": "nonsense"}, **SHORT))
        assert isinstance(await opened.answer(Question("?", **SHORT)), str)


@pytest.mark.parametrize("picture_count", [0, 1, 3])
async def test_any_image_text_to_text_folder_answers_in_batches_as_it_does_alone(idefics3: Path, picture_count: int):
    questions = [
        Question("word " * length, [picture(56, 28, 40 * length)] * picture_count, max_new_tokens=6)
        for length in range(1, 5)
    ]
    async with engine(idefics3) as opened:
        together = await asyncio.gather(*(opened.answer(question) for question in questions))
        alone = [await opened.answer(question) for question in questions]
    assert together == alone


@pytest.mark.parametrize("sizes", [[], [(28, 28)], [(28, 28), (56, 14)], [(300, 200), (20, 90), (20, 90)]])
@pytest.mark.parametrize("family", ["nano", "idefics3"])
def test_tokens_are_counted_as_the_model_reads_them(family: str, sizes: list[tuple[int, int]], idefics3: Path):
    folder = NANO if family == "nano" else idefics3
    processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(folder, local_files_only=True)
    question = Question("What is there?", [picture(*size) for size in sizes], max_new_tokens=9)
    text = ChatTemplate(processor).render(question)
    read = processor(text=[text], images=[list(question.images)] if sizes else None)["input_ids"][0]
    assert TokenCounter(processor, model).count(question) == len(read) + 9


@pytest.mark.parametrize(
    ("token_counts", "fitting"),
    [
        ([100] * 3, 3),
        ([100] * 9, 4),  # max_batch
        ([300, 300, 300, 300], 3),  # a fourth would make 1,200 tokens
        ([100, 100, 600], 2),  # padded to 600, three would be 1,800
        ([5000, 10], 1),  # one always goes
    ],
)
def test_a_batch_ends_where_its_tokens_or_its_questions_do(token_counts: list[int], fitting: int):
    assert count_fitting(token_counts, BatchLimits(max_batch=4, max_batch_tokens=1000)) == fitting


async def test_pictures_count_against_the_context():
    async with engine() as opened:
        with pytest.raises(BadModelOutput, match="context"):
            await opened.answer(Question("?", [picture()] * 21, **SHORT))  # 49 tokens each, 1,024 in all

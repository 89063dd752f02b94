"""Recordings: every answer of an engine, played back, and nothing of what was asked."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.common.runtime.errors import BadModelOutput, Unavailable, WrongState
from services.lvlm.adapters.recorded_engine import RecordedEngine, RecordingEngine, digest_question
from services.lvlm.bootstrap import build_engine
from services.lvlm.ports import Question
from services.lvlm.settings import LvlmSettings
from tests.support.fakes import ScriptedEngine
from tests.support.full_disk import full_disk

QUESTION = Question(
    "Is the marker in the corner?", (Image.new("RGB", (4, 4), (1, 2, 3)),), schema={"type": "object"}, seed=3
)
OTHERS = {
    "text": replace(QUESTION, text="Is the marker there?"),
    "pixel": replace(QUESTION, images=(Image.new("RGB", (4, 4), (1, 2, 4)),)),
    "shape": replace(QUESTION, images=(Image.new("RGB", (2, 8), (1, 2, 3)),)),
    "second picture": replace(QUESTION, images=QUESTION.images * 2),
    "schema": replace(QUESTION, schema={"type": "array"}),
    "seed": replace(QUESTION, seed=4),
    "attempt": replace(QUESTION, attempt=1),
    "longest answer": replace(QUESTION, max_new_tokens=7),
}


async def record(folder: Path, script: Callable[[Question], str], *questions: Question) -> None:
    with RecordingEngine(ScriptedEngine(script), folder) as recording:
        for question in questions:
            await recording.answer(question)


def echo(question: Question) -> str:
    return f"answer {question.seed}/{question.attempt}"


async def test_a_recording_answers_as_the_engine_did_under_its_model(tmp_path: Path):
    again = replace(QUESTION, attempt=1)
    await record(tmp_path, echo, QUESTION, again)
    async with RecordedEngine(tmp_path) as recorded:
        assert [await recorded.answer(question) for question in (again, QUESTION)] == ["answer 3/1", "answer 3/0"]
    assert (recorded.name, recorded.model_id) == ("recorded", "script")


@pytest.mark.parametrize("changed", OTHERS)
async def test_a_question_that_differs_in_anything_was_not_seen(tmp_path: Path, changed: str):
    await record(tmp_path, echo, QUESTION)
    with pytest.raises(WrongState, match=digest_question(OTHERS[changed])):
        await RecordedEngine(tmp_path).answer(OTHERS[changed])


def test_the_same_pixels_make_the_same_question():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    first, second = (Question("?", (Image.fromarray(pixels.copy()),)) for _ in range(2))
    assert digest_question(first) == digest_question(second)


async def test_neither_prompt_nor_pixel_is_written_down(tmp_path: Path):
    await record(tmp_path, echo, QUESTION)
    (path,) = tmp_path.iterdir()
    assert json.loads(path.read_text()) == {
        "question": digest_question(QUESTION),
        "answer": "answer 3/0",
        "engine": "scripted",
        "model_id": "script",
    }


async def test_a_refused_question_is_refused_again(tmp_path: Path):
    def refuse(question: Question) -> str:
        raise BadModelOutput("content filter")

    with pytest.raises(BadModelOutput):
        await record(tmp_path, refuse, QUESTION)
    with pytest.raises(BadModelOutput, match="content filter"):
        await RecordedEngine(tmp_path).answer(QUESTION)


async def test_an_engine_that_is_away_leaves_no_line(tmp_path: Path):
    def be_away(question: Question) -> str:
        raise Unavailable("away")

    with pytest.raises(Unavailable):
        await record(tmp_path, be_away, QUESTION)
    with pytest.raises(WrongState, match="no answer"):
        RecordedEngine(tmp_path)


async def test_recordings_add_up_and_the_last_reply_counts(tmp_path: Path):
    other = replace(QUESTION, seed=9)
    await record(tmp_path, lambda question: "first", QUESTION, other)
    await record(tmp_path, lambda question: "second", QUESTION)
    recorded = RecordedEngine(tmp_path)
    assert [await recorded.answer(question) for question in (QUESTION, other)] == ["second", "first"]
    assert len(list(tmp_path.iterdir())) == 2


async def test_a_line_torn_by_a_kill_is_passed_over_and_any_other_is_told(tmp_path: Path):
    await record(tmp_path, echo, QUESTION)
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text() + '{"question": "sha')
    assert await RecordedEngine(tmp_path).answer(QUESTION) == "answer 3/0"
    path.write_text("[]\n" + path.read_text())
    with pytest.raises(WrongState, match=r"jsonl:1 is no line of a recording"):
        RecordedEngine(tmp_path)


async def test_a_line_that_a_full_disk_tears_is_taken_back_and_the_recording_goes_on(tmp_path: Path):
    first, torn, last = (replace(QUESTION, seed=seed) for seed in range(3))
    engine = ScriptedEngine(lambda question: f"{question.seed}" * 20_000)
    with RecordingEngine(engine, tmp_path) as recording:
        await recording.answer(first)
        (path,) = tmp_path.iterdir()
        before = path.read_bytes()
        with full_disk(len(before) + 12_000), pytest.raises(Unavailable, match="LVLM_RECORD_TO"):
            await recording.answer(torn)
        assert path.read_bytes() == before
        await recording.answer(last)
    recorded = RecordedEngine(tmp_path)
    assert [await recorded.answer(question) for question in (first, last)] == ["0" * 20_000, "2" * 20_000]
    with pytest.raises(WrongState, match="has no answer"):
        await recorded.answer(torn)


async def test_two_models_in_one_recording_are_told(tmp_path: Path):
    for model_id in ("small", "large"):
        engine = ScriptedEngine(echo)
        engine.model_id = model_id
        with RecordingEngine(engine, tmp_path) as recording:
            await recording.answer(QUESTION)
    with pytest.raises(WrongState, match="large, small"):
        RecordedEngine(tmp_path)


async def test_settings_record_the_embedded_model_and_play_it_back(tmp_path: Path):
    question = Question("segments: 1", max_new_tokens=8)
    async with build_engine(LvlmSettings(listen="127.0.0.1:0", record_to=tmp_path)) as engine:
        answer = await engine.answer(question)
    async with build_engine(LvlmSettings(listen="127.0.0.1:0", engine="recorded", recording=tmp_path)) as engine:
        assert (engine.name, engine.model_id) == ("recorded", "plumbline/nano")
        assert await engine.answer(question) == answer


def test_playing_back_needs_a_recording():
    with pytest.raises(ValueError, match="LVLM_RECORDING"):
        LvlmSettings(listen="127.0.0.1:0", engine="recorded")

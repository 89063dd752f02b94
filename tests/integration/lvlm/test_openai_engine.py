"""The OpenAI adapter over real HTTP: what each answer of a server means, and what is asked again."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from prometheus_client import REGISTRY

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded, Overloaded, Unavailable, WrongState
from services.lvlm.adapters.circuit_breaker import CircuitOpen
from services.lvlm.adapters.openai_engine import OpenAiEngine, ServerLimits
from services.lvlm.ports import Question

GOOD = {"choices": [{"message": {"content": "Segment 1 covers the square."}}]}
SCHEMA = {"type": "object", "properties": {"1": {"type": "string"}}}


class Server:
    """Answers each question with the next (status, body) of `answers`; the last one again and again. Keeps what was asked.

    `reply_headers` go with every answer; `most_at_once` is the largest number of questions that were in its hands together.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = [(200, GOOD)]
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.reply_headers: Mapping[str, str] = {}
        self.pause_s = 0.0
        self.most_at_once = 0
        self._at_once = 0
        self._counting = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.count(1)
                try:
                    self.reply()
                finally:
                    server.count(-1)

            def reply(self) -> None:
                server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                server.headers.append(dict(self.headers) | {"path": self.path})
                status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if status == 0:  # never answers
                    server.closing.wait(30)
                    return
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                time.sleep(server.pause_s)
                self.send_response(status)
                for name, value in server.reply_headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1/"
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def count(self, change: int) -> None:
        with self._counting:
            self._at_once += change
            self.most_at_once = max(self.most_at_once, self._at_once)

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    opened = Server()
    yield opened
    opened.close()


def read(name: str, **labels: str) -> float:
    """A number of this process."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def engine(server: Server, **limits: float) -> OpenAiEngine:
    chosen = ServerLimits(**({"answer_timeout_s": 10.0, "retry_pause_s": 0.01} | limits))
    return OpenAiEngine(server.base_url, "qwen", "secret", chosen)


async def ask(server: Server, question: Question | None = None, **limits: float) -> str:
    async with engine(server, **limits) as opened:
        return await opened.answer(question or Question("What is there?"))


async def test_a_question_travels_text_first_then_pictures(server: Server):
    assert await ask(server, Question("Look.", (Image.new("RGB", (4, 4)),), max_new_tokens=7, seed=3)) == (
        "Segment 1 covers the square."
    )
    (body,) = server.asked
    assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url"]
    assert body["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert (body["model"], body["max_tokens"], body["temperature"], body["seed"]) == ("qwen", 7, 0.0, 3)
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["path"] == "/v1/chat/completions"


async def test_a_repeated_question_is_sampled_with_another_seed(server: Server):
    await ask(server, Question("Again.", attempt=2, seed=5))
    assert server.asked[0]["temperature"] > 0
    assert server.asked[0]["seed"] == 7


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_or_failing_server_is_asked_again_and_that_is_counted(server: Server, status: int):
    server.answers, before = [(status, "later"), (200, GOOD)], read("plumbline_lvlm_retries_total")
    assert await ask(server)
    assert len(server.asked) == 2
    assert read("plumbline_lvlm_retries_total") == before + 1


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 30, "completion_tokens": 4}, (30, 4)),
        ({"completion_tokens": 4}, (0, 4)),
        ({"prompt_tokens": -1, "completion_tokens": "many"}, (0, 0)),
        ("no object", (0, 0)),
        (None, (0, 0)),
    ],
)
async def test_tokens_are_counted_that_the_server_tells_of(server: Server, usage: object, counted: tuple[int, int]):
    server.answers = [(200, GOOD | {"usage": usage})]
    directions = ("question", "answer")
    before = [read("plumbline_lvlm_tokens_total", direction=direction) for direction in directions]
    assert await ask(server)
    after = [read("plumbline_lvlm_tokens_total", direction=direction) for direction in directions]
    assert tuple(now - then for now, then in zip(after, before, strict=True)) == counted


async def test_the_page_tells_that_a_server_is_let_be_until_it_answers_again(server: Server):
    server.answers = [(503, "down"), (200, GOOD)]
    async with engine(server, breaker_failures=1, breaker_pause_s=0.1, max_retries=0) as opened:
        assert read("plumbline_lvlm_breaker_open") == 0
        with pytest.raises(Unavailable):
            await opened.answer(Question("What is there?"))
        assert read("plumbline_lvlm_breaker_open") == 1
        await asyncio.sleep(0.15)
        await opened.answer(Question("What is there?"))
        assert read("plumbline_lvlm_breaker_open") == 0


@pytest.mark.parametrize(
    ("status", "body", "error", "told"),
    [
        (429, "busy", Overloaded, "429"),
        (503, "down", Unavailable, "503"),
        (401, {"error": {"message": "bad key"}}, WrongState, "LVLM_API_KEY_FILE"),
        (404, {"error": {"message": "no model"}}, WrongState, "LVLM_MODEL"),
        (400, {"error": {"message": "content filter"}}, BadModelOutput, "content filter"),
        (200, "no JSON", BadModelOutput, "no chat completion"),
        (200, {"choices": []}, BadModelOutput, "no chat completion"),
        (200, {"choices": [{"message": {"content": None}}]}, BadModelOutput, "empty message"),
    ],
)
async def test_what_stays_wrong_is_told_as_what_it_is(
    server: Server, status: int, body: object, error: type[Exception], told: str
):
    server.answers = [(status, body)]
    with pytest.raises(error, match=told):
        await ask(server)


async def test_a_server_that_knows_no_schemas_is_asked_without_one(server: Server):
    server.answers = [(400, {"error": {"message": "response_format is not supported"}}), (200, GOOD)]
    assert await ask(server, Question("Judge.", schema=SCHEMA))
    assert ["response_format" in body for body in server.asked] == [True, False]


async def test_a_server_that_does_not_answer_in_time_is_told_as_such(server: Server):
    server.answers = [(0, "")]
    with pytest.raises(DeadlineExceeded):
        await ask(server, answer_timeout_s=0.3)


async def test_no_server_is_unavailable():
    async with OpenAiEngine("http://127.0.0.1:9/v1", "qwen", "", ServerLimits(retry_pause_s=0.01)) as opened:
        with pytest.raises(Unavailable, match="can't be reached"):
            await opened.answer(Question("?"))


def in_seconds(count: int) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=count), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("is_date", [False, True])
async def test_a_server_that_names_a_pause_is_given_it(server: Server, status: int, is_date: bool):
    server.answers = [(status, "later"), (200, GOOD)]
    server.reply_headers = {"Retry-After": in_seconds(2) if is_date else "1"}
    started = time.monotonic()
    assert await ask(server)
    assert time.monotonic() - started >= 1


async def test_a_pause_longer_than_the_answers_time_is_passed_on_at_once(server: Server):
    server.answers = [(429, "later")]
    server.reply_headers = {"Retry-After": "3600"}
    with pytest.raises(Overloaded) as caught:
        await ask(server)
    assert (caught.value.retry_after_s, len(server.asked)) == (3600, 1)


async def test_a_pause_that_cannot_be_read_is_none(server: Server):
    server.answers = [(503, "later"), (200, GOOD)]
    server.reply_headers = {"Retry-After": "soon"}
    assert await ask(server)


async def test_retries_are_bounded(server: Server):
    server.answers = [(503, "down")]
    with pytest.raises(Unavailable):
        await ask(server, max_retries=3)
    assert len(server.asked) == 4


async def test_no_more_calls_are_in_flight_than_allowed(server: Server):
    server.pause_s = 0.05
    async with engine(server, max_in_flight=2) as opened:
        await asyncio.gather(*(opened.answer(Question("What is there?")) for _ in range(6)))
    assert server.most_at_once == 2


async def test_a_server_that_keeps_failing_is_let_be_and_then_tried_again(server: Server):
    server.answers = [(503, "down")]
    async with engine(server, max_retries=0, breaker_failures=3, breaker_pause_s=0.5) as opened:
        for _ in range(3):
            with pytest.raises(Unavailable, match="503"):
                await opened.answer(Question("?"))
        with pytest.raises(CircuitOpen, match="tried again in"):
            await opened.answer(Question("?"))
        assert len(server.asked) == 3
        server.answers = [(200, GOOD)]
        await asyncio.sleep(0.5)
        assert await opened.answer(Question("?"))


async def test_an_open_breaker_refuses_at_once_instead_of_retrying(server: Server):
    server.answers = [(503, "down")]
    async with engine(server, max_retries=5, breaker_failures=2, breaker_pause_s=5) as opened:
        with pytest.raises(CircuitOpen) as caught:
            await opened.answer(Question("?"))
    assert len(server.asked) == 2
    assert 0 < caught.value.retry_after_s <= 5


async def test_refused_questions_do_not_open_the_breaker(server: Server):
    server.answers = [(400, {"error": {"message": "content filter"}})]
    async with engine(server, breaker_failures=1) as opened:
        for _ in range(3):
            with pytest.raises(BadModelOutput, match="content filter"):
                await opened.answer(Question("?"))

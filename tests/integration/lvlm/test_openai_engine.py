"""The OpenAI adapter over real HTTP: what each answer of a server means, and what is asked again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded, Overloaded, Unavailable, WrongState
from services.lvlm.adapters import openai_engine
from services.lvlm.adapters.openai_engine import OpenAiEngine
from services.lvlm.ports import Question

GOOD = {"choices": [{"message": {"content": "Segment 1 covers the square."}}]}
SCHEMA = {"type": "object", "properties": {"1": {"type": "string"}}}


class Server:
    """Answers each question with the next (status, body) of `answers`; the last one again and again. Keeps what was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = [(200, GOOD)]
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                server.headers.append(dict(self.headers) | {"path": self.path})
                status, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                if status == 0:  # never answers
                    server.closing.wait(30)
                    return
                content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self.closing = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._http.server_port}/v1/"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(openai_engine, "_BACKOFF_S", 0.01)
    opened = Server()
    yield opened
    opened.close()


async def ask(server: Server, question: Question | None = None, timeout_s: float = 10.0) -> str:
    async with OpenAiEngine(server.base_url, "qwen", "secret", timeout_s, max_in_flight=2) as engine:
        return await engine.answer(question or Question("What is there?"))


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
async def test_a_busy_or_failing_server_is_asked_again(server: Server, status: int):
    server.answers = [(status, "later"), (200, GOOD)]
    assert await ask(server)
    assert len(server.asked) == 2


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
        await ask(server, timeout_s=0.3)


async def test_no_server_is_unavailable():
    async with OpenAiEngine("http://127.0.0.1:9/v1", "qwen", "", 2.0, max_in_flight=1) as engine:
        with pytest.raises(Unavailable):
            await engine.answer(Question("?"))

"""Whatever a language model's server replies is an answer or an expected failure, in bounded memory and time."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from services.common.runtime.errors import BadModelOutput, Overloaded, ServiceError, Unavailable, WrongState
from services.common.runtime.grpc_status import to_status
from services.lvlm.adapters.openai_engine import OpenAiEngine, ServerLimits
from services.lvlm.ports import Question

DEEP = b"[" * 200_000
ANSWER = "Segment 1 covers the square."
GOOD = json.dumps({"choices": [{"message": {"content": ANSWER}}]}).encode()
MIB = 2**20

Reply = Callable[[], AsyncIterator[bytes]]


def reply_with(body: bytes = GOOD, status: int = 200, **headers: str) -> Reply:
    async def write() -> AsyncIterator[bytes]:
        lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        yield "\r\n".join([*lines, "\r\n"]).encode() + body

    return write


@asynccontextmanager
async def serve(reply: Reply) -> AsyncIterator[str]:
    """A server that gives every question the bytes of `reply`, as they are."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                (length,) = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(length.split(b":")[1]))
                async for part in reply():
                    writer.write(part)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


def engine(base_url: str, **limits: float) -> OpenAiEngine:
    return OpenAiEngine(base_url, "qwen", "", ServerLimits(**({"max_retries": 0} | limits)))


async def ask(reply: Reply) -> str:
    async with serve(reply) as base_url, engine(base_url) as opened:
        return await opened.answer(Question("What is there?"))


async def failure_of(reply: Reply) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await ask(reply)
    to_status(caught.value).SerializeToString()
    return caught.value


@pytest.mark.parametrize(
    ("statuses", "error"),
    [
        ((400, 413, 415, 422), BadModelOutput),
        ((429,), Overloaded),
        ((408, 425, 500, 501, 502, 503, 504, 507, 520, 521, 522, 524, 529, 530, 599), Unavailable),
        ((204, 301, 302, 307, 308, 401, 402, 403, 404, 405, 406, 409, 410, 418, 451, 499), WrongState),
    ],
)
async def test_a_status_is_about_the_question_or_the_server_or_how_it_is_set_up(
    statuses: tuple[int, ...], error: type[ServiceError]
):
    told = [await failure_of(reply_with(b"", status, Location="https://elsewhere/v1")) for status in statuses]
    assert {type(failure) for failure in told} == {error}
    assert all(str(status) in failure.message for status, failure in zip(statuses, told, strict=True))


@pytest.mark.parametrize("status", [408, 425, 501, 522])
async def test_a_server_that_failed_for_now_is_asked_again(status: int):
    replies = iter([reply_with(b"origin down", status), reply_with()])
    async with (
        serve(lambda: next(replies)()) as base_url,
        engine(base_url, max_retries=1, retry_pause_s=0.0) as opened,
    ):
        assert await opened.answer(Question("What is there?")) == ANSWER


async def test_an_answer_nested_too_deeply_is_no_completion():
    failure = await failure_of(reply_with(DEEP))
    assert isinstance(failure, BadModelOutput)
    assert "no chat completion" in failure.message


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (DEEP, "[[["),
        (b'{"error": "plain"}', "plain"),
        (b"[]", "[]"),
        (b"\xff\xfe!", "\ufffd\ufffd!"),
        (b'{"error": {"message": {"code": 1}}}', "{'code': 1}"),
    ],
)
@pytest.mark.parametrize("charset", ["utf-8", "zlib", "hex", "no such"])
async def test_a_refusal_is_told_in_whatever_form_it_comes(body: bytes, told: str, charset: str):
    failure = await failure_of(reply_with(body, 400, Content_Type=f"text/plain; charset={charset}"))
    assert isinstance(failure, BadModelOutput)
    assert told in failure.message
    assert len(failure.message) < 300


async def test_an_answer_whose_token_count_is_beyond_reason_is_taken_and_not_counted():
    def counted() -> float:
        return REGISTRY.get_sample_value("plumbline_lvlm_tokens_total", {"direction": "question"}) or 0.0

    before = counted()
    for count in (10**400, 10**10):
        usage = b', "usage": {"prompt_tokens": %d}}' % count
        assert await ask(reply_with(GOOD[:-1] + usage)) == ANSWER
    assert counted() == before


@pytest.mark.parametrize(
    ("header", "retry_after_s"),
    [
        ("3600", 3600.0),
        ("9" * 400, 86_400.0),
        ("Fri, 01 Jan 9999 00:00:00 GMT", 86_400.0),
        ("Mon, 01 Jan 2024 00:00:00 GMT", 0.0),
        ("Mon, 01 Jan 2024 00:00:00 +9999999999999999", None),
        ("Mon, 01 Jan 2024 00:00:00 -0000", None),
        ("-5", None),
        ("", None),
    ],
)
async def test_a_pause_that_a_server_asks_for_is_a_day_at_most(header: str, retry_after_s: float | None):
    assert (await failure_of(reply_with(b"", 503, Retry_After=header))).retry_after_s == retry_after_s


@pytest.mark.parametrize(("status", "error"), [(200, BadModelOutput), (400, BadModelOutput), (503, Unavailable)])
async def test_a_reply_larger_than_the_bound_is_not_read_to_its_end(status: int, error: type[ServiceError]):
    sent_count = 0

    async def write_without_end() -> AsyncIterator[bytes]:
        nonlocal sent_count
        yield f"HTTP/1.1 {status} Told\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        while True:
            yield b"100000\r\n" + b" " * MIB + b"\r\n"
            sent_count += 1

    tracemalloc.start()
    try:
        failure = await failure_of(write_without_end)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(failure, error)
    assert ("4194304 bytes" in failure.message) == (status == 200)
    assert sent_count < 32  # what the connection's buffers hold comes on top
    assert peak < 32 * MIB


async def test_a_reply_as_large_as_the_bound_is_read():
    assert await ask(reply_with(GOOD + b" " * (4 * MIB - len(GOOD)))) == ANSWER
    failure = await failure_of(reply_with(GOOD + b" " * (4 * MIB - len(GOOD) + 1)))
    assert "sent over 4194304 bytes" in failure.message


async def test_a_server_is_asked_not_to_compress_and_told_of_when_it_does():
    failure = await failure_of(reply_with(GOOD, Content_Encoding="gzip"))
    assert isinstance(failure, WrongState)
    assert "compresses its replies" in failure.message


async def test_questions_beyond_those_that_may_wait_are_refused_and_those_in_flight_do_not_count():
    may_answer = asyncio.Event()

    async def write_when_told() -> AsyncIterator[bytes]:
        await may_answer.wait()
        async for part in reply_with()():
            yield part

    async with serve(write_when_told) as base_url, engine(base_url, max_in_flight=2, max_waiting=3) as opened:
        asked = [asyncio.create_task(opened.answer(Question("What is there?"))) for _ in range(5)]
        await asyncio.sleep(0)  # all have come as far as they can: two are in flight, three wait
        with pytest.raises(Overloaded, match="3 questions wait for the language model; at most 3 may"):
            await opened.answer(Question("What is there?"))
        asked.pop().cancel()
        await asyncio.sleep(0)
        asked.append(asyncio.create_task(opened.answer(Question("What is there?"))))
        await asyncio.sleep(0)
        may_answer.set()
        assert await asyncio.gather(*asked) == [ANSWER] * 5

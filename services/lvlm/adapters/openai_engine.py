"""The `Engine` port on an OpenAI-compatible server: vLLM, SGLang, `transformers serve`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from PIL import Image

from services.common.runtime.errors import (
    BadModelOutput,
    DeadlineExceeded,
    Overloaded,
    ServiceError,
    Unavailable,
    WrongState,
)
from services.lvlm import metrics
from services.lvlm.adapters.circuit_breaker import CircuitBreaker, CircuitOpen
from services.lvlm.ports import Question

_ABOUT_THE_QUESTION = (400, 413, 415, 422)
_FAILED_FOR_NOW = (408, 425)
"""Of those below 500; from there on any status is the server's failure."""
_SAMPLING_TEMPERATURE = 0.7
_MAX_REPLY_BYTES = 4 * 2**20
"""Ten times what the longest answer that is taken takes up with every character escaped."""
_MAX_MESSAGE_LENGTH = 200
_MAX_TOKEN_COUNT = 10**9
"""No context holds as many; whoever says more has not counted."""
_LONGEST_RETRY_AFTER_S = 24 * 3600.0
_SERVER = "the language model's server"


@dataclass(frozen=True)
class ServerLimits:
    """What a server is given; `LvlmSettings` says of each what it is for."""

    answer_timeout_s: float = 120.0
    connect_timeout_s: float = 5.0
    max_in_flight: int = 16
    max_waiting: int = 1024
    max_retries: int = 2
    retry_pause_s: float = 0.5
    breaker_failures: int = 5
    breaker_pause_s: float = 30.0


class OpenAiEngine:
    """Chat completions over HTTP, within `limits`.

    An answer's time runs from when it has its place among the calls in flight and covers its retries. Failures in a row open
    the breaker; see `CircuitBreaker`.
    """

    name = "openai"

    def __init__(self, base_url: str, model_id: str, api_key: str, limits: ServerLimits) -> None:
        self.model_id = model_id
        self._limits = limits
        self._client = httpx.AsyncClient(
            base_url=base_url.rstrip("/"),
            # What a compressed reply unpacks to has no bound.
            headers={"Accept-Encoding": "identity"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {}),
            timeout=httpx.Timeout(None, connect=limits.connect_timeout_s),
            limits=httpx.Limits(max_connections=limits.max_in_flight),
        )
        self._in_flight = asyncio.Semaphore(limits.max_in_flight)
        self._waiting_count = 0
        self._breaker = CircuitBreaker(_SERVER, limits.breaker_failures, limits.breaker_pause_s)
        metrics.BREAKER_OPEN.set_function(lambda: self._breaker.is_open)

    async def __aenter__(self) -> OpenAiEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def answer(self, question: Question) -> str:
        """See the port.

        Raises
        ------
        Unavailable
            When the server can't be reached or fails in every try, and at once while the breaker is open; `retry_after_s` then
            says when it is tried again.
        Overloaded
            When it stays busy, or asks for a longer pause than the answer has time left; at once when too many questions wait.
        DeadlineExceeded
            When the answer's time is over.
        """
        async with self._place():
            body = await asyncio.to_thread(self._body, question)
            deadline = asyncio.get_running_loop().time() + self._limits.answer_timeout_s
            try:
                return await self._post(body, deadline)
            except BadModelOutput:
                if "response_format" not in body:
                    raise
            # The server may know no schemas; the answer is read strictly all the same.
            del body["response_format"]
            return await self._post(body, deadline)

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place among the calls in flight, waited for unless too many wait already."""
        if self._in_flight.locked() and self._waiting_count >= self._limits.max_waiting:
            raise Overloaded(
                f"{self._waiting_count} questions wait for the language model; at most {self._limits.max_waiting} may"
            )
        self._waiting_count += 1
        try:
            await self._in_flight.acquire()
        finally:
            self._waiting_count -= 1
        try:
            yield
        finally:
            self._in_flight.release()

    async def _post(self, body: dict[str, Any], deadline: float) -> str:
        for attempt in range(self._limits.max_retries + 1):
            try:
                with self._breaker.guard():
                    return await self._post_once(body, deadline)
            except CircuitOpen:
                raise
            except (Unavailable, Overloaded) as error:
                pause_s = max(error.retry_after_s or 0.0, self._backoff_s(attempt))
                is_last = attempt == self._limits.max_retries
                if is_last or asyncio.get_running_loop().time() + pause_s >= deadline:
                    raise
                await asyncio.sleep(pause_s)
                metrics.RETRIES.inc()
        raise AssertionError("unreachable")

    def _backoff_s(self, attempt: int) -> float:
        return self._limits.retry_pause_s * 2**attempt * random.uniform(0.5, 1.5)

    async def _post_once(self, body: dict[str, Any], deadline: float) -> str:
        try:
            async with (
                asyncio.timeout_at(deadline),
                self._client.stream("POST", "/chat/completions", json=body) as response,
            ):
                reply = await _read_reply(response)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{_SERVER} did not answer in {self._limits.answer_timeout_s:g} s (LVLM_ANSWER_TIMEOUT_S)"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{_SERVER} can't be reached: {type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise _refusal(response.status_code, response.headers, reply)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise WrongState(f"{_SERVER} compresses its replies though it is asked not to; see LVLM_BASE_URL")
        return _read_content(reply)

    def _body(self, question: Question) -> dict[str, Any]:
        content = [{"type": "text", "text": question.text}]
        content += [{"type": "image_url", "image_url": {"url": _data_uri(image)}} for image in question.images]
        body: dict[str, Any] = {
            "model": self.model_id,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": question.max_new_tokens,
            "temperature": _SAMPLING_TEMPERATURE if question.attempt else 0.0,
            "seed": question.seed + question.attempt,
        }
        if question.schema:
            schema = {"name": "answer", "strict": True, "schema": question.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


async def _read_reply(response: httpx.Response) -> bytes:
    """The body as it was sent; of one over `_MAX_REPLY_BYTES` the beginning, which is over it too."""
    reply = bytearray()
    async for chunk in response.aiter_raw():
        reply += chunk
        if len(reply) > _MAX_REPLY_BYTES:
            break
    return bytes(reply)


def _read_content(reply: bytes) -> str:
    """The answer in a chat completion, whose tokens are counted."""
    if len(reply) > _MAX_REPLY_BYTES:
        raise BadModelOutput(f"{_SERVER} sent over {_MAX_REPLY_BYTES} bytes; at most so many are read")
    try:
        completion = json.loads(reply)
        content = completion["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BadModelOutput(f"{_SERVER} sent no chat completion") from error
    if not isinstance(content, str):
        raise BadModelOutput(f"{_SERVER} sent an empty message")
    _count_tokens(completion.get("usage"))
    return content


def _count_tokens(usage: Any) -> None:
    """Count what the server says that question and answer took; it need not say anything."""
    for name, direction in (("prompt_tokens", "question"), ("completion_tokens", "answer")):
        count = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(count, int) and 0 < count <= _MAX_TOKEN_COUNT:
            metrics.TOKENS.labels(direction).inc(count)


def _refusal(status: int, headers: httpx.Headers, reply: bytes) -> ServiceError:
    """What a status other than 200 means: about this one question, about the server for now, else about how it is set up."""
    if status in _ABOUT_THE_QUESTION:
        return BadModelOutput(f"{_SERVER} refused the question (HTTP {status}): {_read_message(reply)}")
    retry_after_s = _read_retry_after(headers.get("Retry-After", ""))
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Overloaded(f"{_SERVER} is busy (HTTP 429)", retry_after_s=retry_after_s)
    if status in _FAILED_FOR_NOW or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Unavailable(f"{_SERVER} failed (HTTP {status})", retry_after_s=retry_after_s)
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return WrongState(f"{_SERVER} refused our key (HTTP {status}); see LVLM_API_KEY_FILE")
    if status == httpx.codes.NOT_FOUND:
        return WrongState(f"{_SERVER} knows no such model or path (HTTP 404); see LVLM_MODEL, LVLM_BASE_URL")
    return WrongState(f"{_SERVER} takes no questions there (HTTP {status}); see LVLM_BASE_URL, LVLM_API_KEY_FILE")


def _read_retry_after(header: str) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date, a day at most; None when it holds neither."""
    if header.strip().isdecimal():
        return min(float(header), _LONGEST_RETRY_AFTER_S)
    try:
        date = parsedate_to_datetime(header)
    except (ValueError, OverflowError):  # the latter for a time zone that is centuries away
        return None
    if date.tzinfo is None:
        return None
    return min(max(0.0, (date - datetime.now(UTC)).total_seconds()), _LONGEST_RETRY_AFTER_S)


def _read_message(reply: bytes) -> str:
    try:
        message = str(json.loads(reply)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        message = reply.decode(errors="replace")
    return message[:_MAX_MESSAGE_LENGTH]


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

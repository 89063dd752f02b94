"""The `Engine` port on an OpenAI-compatible server: vLLM, SGLang, `transformers serve`."""

from __future__ import annotations

import asyncio
import base64
import io
import random
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

_RETRIED_STATUS = (429, 500, 502, 503, 504)
_SAMPLING_TEMPERATURE = 0.7
_MAX_MESSAGE_LENGTH = 200
_SERVER = "the language model's server"


@dataclass(frozen=True)
class ServerLimits:
    """What a server is given; `LvlmSettings` says of each what it is for."""

    answer_timeout_s: float = 120.0
    connect_timeout_s: float = 5.0
    max_in_flight: int = 16
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
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(None, connect=limits.connect_timeout_s),
            limits=httpx.Limits(max_connections=limits.max_in_flight),
        )
        self._in_flight = asyncio.Semaphore(limits.max_in_flight)
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
            When it stays busy, or asks for a longer pause than the answer has time left.
        DeadlineExceeded
            When the answer's time is over.
        """
        async with self._in_flight:
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
            async with asyncio.timeout_at(deadline):
                response = await self._client.post("/chat/completions", json=body)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"{_SERVER} did not answer in {self._limits.answer_timeout_s:g} s (LVLM_ANSWER_TIMEOUT_S)"
            ) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{_SERVER} can't be reached: {type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        try:
            completion = response.json()
            content = completion["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadModelOutput(f"{_SERVER} sent no chat completion") from error
        if not isinstance(content, str):
            raise BadModelOutput(f"{_SERVER} sent an empty message")
        _count_tokens(completion.get("usage"))
        return content

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


def _count_tokens(usage: Any) -> None:
    """Count what the server says that question and answer took; it need not say anything."""
    for name, direction in (("prompt_tokens", "question"), ("completion_tokens", "answer")):
        count = usage.get(name) if isinstance(usage, dict) else None
        if isinstance(count, int) and count > 0:
            metrics.TOKENS.labels(direction).inc(count)


def _refusal(response: httpx.Response) -> ServiceError:
    """What an answer other than 200 means: about the server and its settings, or about this one question."""
    status = response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return WrongState(f"{_SERVER} refused our key (HTTP {status}); see LVLM_API_KEY_FILE")
    if status == httpx.codes.NOT_FOUND:
        return WrongState(f"{_SERVER} knows no such model or path (HTTP 404); see LVLM_MODEL, LVLM_BASE_URL")
    retry_after_s = _read_retry_after(response.headers.get("Retry-After", ""))
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Overloaded(f"{_SERVER} is busy (HTTP 429)", retry_after_s=retry_after_s)
    if status in _RETRIED_STATUS:
        return Unavailable(f"{_SERVER} failed (HTTP {status})", retry_after_s=retry_after_s)
    return BadModelOutput(f"{_SERVER} refused the question (HTTP {status}): {_read_message(response)}")


def _read_retry_after(header: str) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None when it holds neither."""
    if header.strip().isdecimal():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds())


def _read_message(response: httpx.Response) -> str:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text
    return str(message)[:_MAX_MESSAGE_LENGTH]


def _data_uri(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"

"""The `Engine` port on an OpenAI-compatible server: vLLM, SGLang, `transformers serve`."""

from __future__ import annotations

import asyncio
import base64
import io
import random
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
from services.lvlm.ports import Question

_RETRY_COUNT = 2
_BACKOFF_S = 0.5
_RETRIED_STATUS = (429, 500, 502, 503, 504)
_SAMPLING_TEMPERATURE = 0.7
_MAX_MESSAGE_LENGTH = 200


class OpenAiEngine:
    """Chat completions over HTTP: bounded retries with jitter, a cap on calls in flight, a time limit on each."""

    name = "openai"

    def __init__(self, base_url: str, model_id: str, api_key: str, timeout_s: float, max_in_flight: int) -> None:
        self.model_id = model_id
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.AsyncClient(base_url=base_url.rstrip("/"), headers=headers, timeout=timeout_s)
        self._in_flight = asyncio.Semaphore(max_in_flight)

    async def __aenter__(self) -> OpenAiEngine:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def answer(self, question: Question) -> str:
        """See the port."""
        body = self._body(question)
        async with self._in_flight:
            try:
                return await self._post(body)
            except BadModelOutput:
                if "response_format" not in body:
                    raise
            # The server may know no schemas; the answer is read strictly all the same.
            del body["response_format"]
            return await self._post(body)

    async def _post(self, body: dict[str, Any]) -> str:
        for attempt in range(_RETRY_COUNT + 1):
            try:
                return await self._post_once(body)
            except (Unavailable, Overloaded):
                if attempt == _RETRY_COUNT:
                    raise
                await asyncio.sleep(_BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("unreachable")

    async def _post_once(self, body: dict[str, Any]) -> str:
        try:
            response = await self._client.post("/chat/completions", json=body)
        except httpx.TimeoutException as error:
            raise DeadlineExceeded("the language model's server did not answer in time") from error
        except httpx.HTTPError as error:
            raise Unavailable(f"the language model's server can't be reached: {type(error).__name__}") from error
        if response.status_code != httpx.codes.OK:
            raise _refusal(response)
        try:
            content = response.json()["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise BadModelOutput("the language model's server sent no chat completion") from error
        if not isinstance(content, str):
            raise BadModelOutput("the language model's server sent an empty message")
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


def _refusal(response: httpx.Response) -> ServiceError:
    """What an answer other than 200 means: about the server and its settings, or about this one question."""
    status = response.status_code
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        return WrongState(f"the language model's server refused our key (HTTP {status}); see LVLM_API_KEY_FILE")
    if status == httpx.codes.NOT_FOUND:
        return WrongState(
            "the language model's server knows no such model or path (HTTP 404); see LVLM_MODEL, LVLM_BASE_URL"
        )
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return Overloaded("the language model's server is busy (HTTP 429)")
    if status in _RETRIED_STATUS:
        return Unavailable(f"the language model's server failed (HTTP {status})")
    return BadModelOutput(
        f"the language model's server refused the question (HTTP {status}): {_read_message(response)}"
    )


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

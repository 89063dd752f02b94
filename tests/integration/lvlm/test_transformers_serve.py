"""The OpenAI adapter against a server that we did not write: `transformers serve` with nano's folder, on this machine, offline.

It serves a local folder as it is: `transformers serve FOLDER`, where LVLM_MODEL is the folder's path. What it does with our questions
(5.24):

- Pictures and template are the folder's own, so greedy answers are the in-process engine's, word for word, once the server computes in
  the same precision: without `--dtype float32` it takes the bfloat16 of the weights.
- `response_format` is ignored, and only its log says so. A judge is not held to its schema there; its answer is read strictly all the
  same. vLLM and SGLang document that they hold it; neither could be run here.
- `temperature` makes nothing sampled where the folder's generation_config says `do_sample: false`, as nano's does: a question asked
  again is answered the same way again.
- A text with the tokenizer's picture mark in it is HTTP 500, which counts as a failure of the server. Prompts break such marks up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from plumbline.stack.processes import Child, Command, free_port, start, stop, tail
from services.common.runtime.errors import Unavailable
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.common.vision.critique import Critique, Verdict
from services.common.vision.explanation import Segment
from services.lvlm.adapters.circuit_breaker import CircuitOpen
from services.lvlm.adapters.openai_engine import OpenAiEngine, ServerLimits
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.adapters.transformers_engine import BatchLimits, TransformersEngine
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.ports import Engine, Question
from services.lvlm.settings import NANO
from tests.support.waiting import wait_for

START_S = 120.0
DIGEST = "sha256:" + "0" * 64
SPECIFICATION = ClassSpecification("Read the digit.", (ClassRule("all", "the digit", "the grey square in the corner"),))
QUESTION = Question("segments: 1", max_new_tokens=40)


class Server:
    """`transformers serve` on a free loopback port that it keeps when it is started again."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._port = free_port()
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        self._child: Child | None = None

    def start(self) -> None:
        program = str(Path(sys.executable).parent / "transformers")
        options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(self._port)]
        environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self._child = start(Command("serve", [program, "serve", str(NANO), *options], environment), self._logs)
        wait_for(self._is_there, START_S)

    def _is_there(self) -> bool:
        assert self._child
        assert self._child.process.poll() is None, tail(self._logs / "serve.log")
        try:
            return httpx.get(f"{self.base_url.removesuffix('/v1')}/health").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As a lost machine does: no farewell."""
        assert self._child
        self._child.process.kill()
        self._child.process.wait()

    def stop(self) -> None:
        if self._child:
            stop([self._child])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    opened = Server(tmp_path_factory.mktemp("serve"))
    try:
        opened.start()
        yield opened
    finally:
        opened.stop()


def engine(server: Server, **limits: float) -> OpenAiEngine:
    return OpenAiEngine(server.base_url, str(NANO), "", ServerLimits(**limits))


def draw() -> ExplainedPicture:
    """A stroke and a grey square, with a segment on each."""
    pixels, square, stroke = (np.zeros((28, 28), dtype) for dtype in (np.uint8, bool, bool))
    square[:4, :4] = stroke[6:22, 13:16] = True
    pixels[square], pixels[stroke] = 130, 255
    segments = tuple(Segment(number, 0.5, mask) for number, mask in enumerate((square, stroke), start=1))
    return ExplainedPicture("a.png", DIGEST, pixels, "1", "1", segments)


async def criticise(asked: Engine) -> Critique:
    """A critic's and a judge's answer about the drawn picture, without who gave it."""
    translating = Translating(asked, load_profile("nano"), None, seed=0)
    (critique,) = await translating.translate(DIGEST, SPECIFICATION, [draw()])
    return critique.model_copy(update={"provenance": None})


async def test_critic_and_judge_say_over_http_what_they_say_in_process(server: Server):
    async with engine(server) as remote, TransformersEngine(NANO, "nano", BatchLimits()) as local:
        told = await criticise(remote)
        assert told == await criticise(local)
    assert told.failure == ""
    assert Verdict.FAILED not in [judged.verdict for judged in told.verdicts]


async def test_questions_at_once_get_each_their_own_answer(server: Server):
    questions = [replace(QUESTION, text=f"segments: {count}") for count in (1, 2, 3, 4)]
    async with engine(server, max_in_flight=4) as remote:
        together = await asyncio.gather(*(remote.answer(question) for question in questions))
        assert together == [await remote.answer(question) for question in questions]


async def test_a_server_killed_amid_questions_is_let_be_and_serves_again_when_it_is_back(server: Server):
    patience = {
        "max_in_flight": 2,
        "max_retries": 1,
        "retry_pause_s": 0.05,
        "breaker_failures": 3,
        "breaker_pause_s": 3.0,
    }
    async with engine(server, **patience) as remote:
        asked = [asyncio.create_task(remote.answer(QUESTION)) for _ in range(12)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        server.kill()
        told = await asyncio.gather(*asked, return_exceptions=True)
        answers = {answer for answer in told if isinstance(answer, str)}
        failures = [answer for answer in told if not isinstance(answer, str)]
        assert failures
        assert all(isinstance(failure, Unavailable) for failure in failures), failures
        with pytest.raises(CircuitOpen, match="tried again in") as refusal:
            await remote.answer(QUESTION)
        await asyncio.sleep(refusal.value.retry_after_s)
        await asyncio.to_thread(server.start)
        assert await remote.answer(QUESTION) in answers

"""The `Engine` port on a `transformers` image-text-to-text model in this process, batched over all callers."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from services.common.runtime.errors import BadModelOutput, DeadlineExceeded, Overloaded
from services.lvlm.ports import Question

log = logging.getLogger(__name__)

_LINGER_S = 0.005
_SAMPLING_TEMPERATURE = 0.7


@dataclass(frozen=True)
class _Waiting:
    question: Question
    answer: asyncio.Future[str]

    @property
    def batch_key(self) -> tuple[int, int, int, int]:
        """Questions with the same key can share one `generate` call."""
        question = self.question
        return len(question.images), question.max_new_tokens, question.seed, question.attempt


class TransformersEngine:
    """Greedy answers from any local `AutoModelForImageTextToText` folder; repeated questions are sampled.

    One thread owns the model. Whatever waits when it gets free goes into its next batch.
    """

    name = "transformers"

    def __init__(self, folder: Path, model_id: str, max_batch: int, max_waiting: int, timeout_s: float) -> None:
        self.model_id = model_id
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._processor.tokenizer.padding_side = "left"
        # A tokenizer serves one thread at a time, and the processor's is the engine's.
        self._counting_tokenizer = copy.deepcopy(self._processor.tokenizer)
        self._render_chat(Question("?"))  # a folder without a chat template fails now, not at the first question
        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = torch.bfloat16 if device == "cuda" else torch.float32
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True
        )
        self._model = model.to(device).eval()
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> TransformersEngine:
        self._loop_task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._loop_task:
            self._loop_task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop_task
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def answer(self, question: Question) -> str:
        """See the port.

        Raises
        ------
        Overloaded
            When too many questions wait.
        DeadlineExceeded
            When the turn did not come in time.
        BadModelOutput
            When question and answer don't fit the model's context.
        """
        self._check_length(question)
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} questions wait for the language model; at most {self._max_waiting} may"
            )
        waiting = _Waiting(question, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            return await asyncio.wait_for(waiting.answer, self._timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(f"the language model did not answer in {self._timeout_s:.0f} s") from error

    def _check_length(self, question: Question) -> None:
        most = self._counting_tokenizer.model_max_length
        count = len(self._counting_tokenizer(question.text)["input_ids"]) + question.max_new_tokens
        if count > most:
            raise BadModelOutput(f"question and answer come to {count} tokens; the model's context has {most}")

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_LINGER_S)
            batch = self._take_batch()
            if not batch:
                self._arrived.clear()
                continue
            questions = [waiting.question for waiting in batch]
            try:
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._generate, questions)
            except Exception as error:  # any failure belongs to the callers of this batch, and the loop goes on
                log.exception("generation failed", extra={"batch": len(batch)})
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _take_batch(self) -> list[_Waiting]:
        """The oldest question and those that can run with it; questions whose callers have gone are dropped."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if not self._waiting:
            return []
        key = self._waiting[0].batch_key
        batch = [waiting for waiting in self._waiting if waiting.batch_key == key][: self._max_batch]
        taken = {id(waiting) for waiting in batch}
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return batch

    def _generate(self, questions: list[Question]) -> list[str]:
        texts = [self._render_chat(question) for question in questions]
        pictures = [list(question.images) for question in questions] if questions[0].images else None
        inputs = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        inputs = inputs.to(self._model.device, dtype=self._model.dtype)
        sampling: dict[str, object] = {"do_sample": False}
        if questions[0].attempt:
            torch.manual_seed(questions[0].seed + questions[0].attempt)
            sampling = {"do_sample": True, "temperature": _SAMPLING_TEMPERATURE}
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=questions[0].max_new_tokens, **sampling)
        return self._processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def _render_chat(self, question: Question) -> str:
        parts = [{"type": "text", "text": self._defuse(question.text)}, *({"type": "image"} for _ in question.images)]
        return self._processor.apply_chat_template(
            [{"role": "user", "content": parts}], add_generation_prompt=True, tokenize=False
        )

    def _defuse(self, text: str) -> str:
        """Break up the tokenizer's own marks in a text: a specification can't add a picture or end the turn."""
        tokenizer = self._processor.tokenizer
        added = {token.content for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()}
        for token in sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True):
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

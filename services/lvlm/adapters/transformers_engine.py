"""The `Engine` port on a `transformers` image-text-to-text model in this process, batched over all callers."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedModel, ProcessorMixin

from services.common.runtime.errors import DeadlineExceeded, Overloaded
from services.lvlm import metrics
from services.lvlm.adapters.chat_template import ChatTemplate, TokenCounter
from services.lvlm.adapters.constraints import Constraints
from services.lvlm.ports import Question

log = logging.getLogger(__name__)

_LINGER_S = 0.005
_SAMPLING_TEMPERATURE = 0.7


@dataclass(frozen=True)
class BatchLimits:
    """What the model's process is given; `LvlmSettings` says of each what it is for."""

    max_batch: int = 32
    max_batch_tokens: int = 32_768
    max_waiting: int = 1024
    answer_timeout_s: float = 120.0


@dataclass(frozen=True)
class _Waiting:
    question: Question
    token_count: int
    """Of question and longest answer together."""
    answer: asyncio.Future[str]

    @property
    def batch_key(self) -> tuple[int, int, int, int]:
        """Questions with the same key can share one `generate` call."""
        question = self.question
        return len(question.images), question.max_new_tokens, question.seed, question.attempt


class TransformersEngine:
    """Greedy answers from any local `AutoModelForImageTextToText` folder; repeated questions are sampled.

    An answer follows its question's schema; only one that reaches `max_new_tokens` may end before it is whole. One thread owns
    the model. Whatever waits when it gets free goes into its next batch, within `limits`.
    """

    name = "transformers"

    def __init__(self, folder: Path, model_id: str, limits: BatchLimits) -> None:
        self.model_id = model_id
        self._limits = limits
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._processor.tokenizer.padding_side = "left"
        self._model = _load_model(folder)
        # A tokenizer serves one thread at a time, and the processor's is the engine's.
        self._template = ChatTemplate(self._processor)
        self._counter = TokenCounter(copy.deepcopy(self._processor), self._model)
        self._constraints = _make_constraints(copy.deepcopy(self._processor), self._model)
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
            When question and answer don't fit the model's context, or no answer can be held to the schema.
        """
        token_count = self._counter.count(question)
        if question.schema and self._constraints:
            self._constraints.check(question.schema)
        waiting_count = sum(not waiting.answer.done() for waiting in self._waiting)  # callers may have left
        if waiting_count >= self._limits.max_waiting:
            raise Overloaded(
                f"{waiting_count} questions wait for the language model; at most {self._limits.max_waiting} may"
            )
        waiting = _Waiting(question, token_count, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._arrived.set()
        try:
            return await asyncio.wait_for(waiting.answer, self._limits.answer_timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"the language model did not answer in {self._limits.answer_timeout_s:g} s (LVLM_ANSWER_TIMEOUT_S)"
            ) from error

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
                answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._answer_all, questions)
            except Exception as error:  # any failure belongs to the callers of this batch, and the loop goes on
                log.exception("generation failed", extra={"batch": len(batch)})
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(error)
                continue
            for waiting, answer in zip(batch, answers, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(answer)

    def _answer_all(self, questions: Sequence[Question]) -> list[str]:
        """An answer to each, or an exception that a future can hold: with any other the loop would wait for ever."""
        try:
            answers = self._generate(questions)
        except StopIteration as error:
            raise RuntimeError("the language model's generation stopped without an answer") from error
        if len(answers) != len(questions):
            raise RuntimeError(f"the language model gave {len(answers)} answers to {len(questions)} questions")
        return answers

    def _take_batch(self) -> list[_Waiting]:
        """The oldest question and those that can run with it; questions whose callers have gone are dropped."""
        self._waiting = [waiting for waiting in self._waiting if not waiting.answer.done()]
        if not self._waiting:
            return []
        key = self._waiting[0].batch_key
        alike = [waiting for waiting in self._waiting if waiting.batch_key == key]
        batch = alike[: count_fitting([waiting.token_count for waiting in alike], self._limits)]
        taken = {id(waiting) for waiting in batch}
        self._waiting = [waiting for waiting in self._waiting if id(waiting) not in taken]
        return batch

    def _generate(self, questions: Sequence[Question]) -> list[str]:
        texts = [self._template.render(question) for question in questions]
        pictures = [list(question.images) for question in questions] if questions[0].images else None
        inputs = self._processor(text=texts, images=pictures, padding=True, return_tensors="pt")
        inputs = inputs.to(self._model.device, dtype=self._model.dtype)
        options: dict[str, object] = {"do_sample": False, "num_beams": 1}
        if questions[0].attempt:
            torch.manual_seed(questions[0].seed + questions[0].attempt)
            options |= {"do_sample": True, "temperature": _SAMPLING_TEMPERATURE}
        if self._constraints and (held := self._constraints.hold([question.schema for question in questions])):
            options["logits_processor"] = [held]
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=questions[0].max_new_tokens, **options)
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        metrics.BATCH_QUESTIONS.observe(len(questions))
        metrics.TOKENS.labels("question").inc(int(inputs["attention_mask"].sum()))
        metrics.TOKENS.labels("answer").inc(int((answers != self._processor.tokenizer.pad_token_id).sum()))
        return self._processor.batch_decode(answers, skip_special_tokens=True)


def count_fitting(token_counts: Sequence[int], limits: BatchLimits) -> int:
    """How many questions from the front run together, one at least: each is padded to the longest of them."""
    longest = 0
    for size, token_count in enumerate(token_counts[: limits.max_batch], start=1):
        longest = max(longest, token_count)
        if size > 1 and size * longest > limits.max_batch_tokens:
            return size - 1
    return min(len(token_counts), limits.max_batch)


def _load_model(folder: Path) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, local_files_only=True
    )
    return model.to(device).eval()


def _make_constraints(processor: ProcessorMixin, model: PreTrainedModel) -> Constraints | None:
    try:
        return Constraints(processor.tokenizer, model)
    except ValueError as error:
        log.warning("answers can't be held to schemas, only read strictly", extra={"reason": str(error)})
        return None

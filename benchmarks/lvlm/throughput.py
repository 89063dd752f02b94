"""Critiques per second of the batched in-process engine against one `generate` call at a time.

Run: python -m benchmarks.lvlm.throughput --out FILE [--count N] [--repeats R] [--seed S]

Both ways judge the same decoy digits with the embedded model through the LVLM service's own use case: a critic's and a judge's answer
per picture. *batched*: requests of 32 pictures, all at once, through the service's engine with its default limits. *one at a time*: a
picture after the other, each question straight to the processor and `generate`, without schemas or anything of ours between. Each
measurement is a process of its own, warmed up by a few pictures; a repeat takes both ways, one right after the other, in changing
order. Peak memory is the process's largest resident set; what is there before the first picture (libraries, weights) is told beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import transformers
from transformers import AutoModelForImageTextToText, AutoProcessor

from benchmarks.decoy.data import DecoyDigits, load_splits
from benchmarks.provenance import where, write_report
from services.common.vision.class_specification import EVERY_CLASS, ClassRule, ClassSpecification
from services.common.vision.explanation import Segment
from services.lvlm.adapters.chat_template import ChatTemplate
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.ports import Engine, Question
from services.lvlm.settings import NANO, LvlmSettings

THREADS = 2
REQUEST_SIZE = 32
WARM_UP_COUNT = 4
BATCHED, ONE_AT_A_TIME = "batched", "one at a time"
NO_DIGEST = "sha256:" + "0" * 64
SPECIFICATION = ClassSpecification(
    "Read the handwritten digit.", (ClassRule(EVERY_CLASS, "the handwritten digit", "the grey square in the corner"),)
)


@dataclass(frozen=True)
class Measurement:
    """One way, once."""

    critiques_per_s: float
    failed_count: int
    loaded_bytes: int
    peak_bytes: int


def main() -> None:
    """Measure both ways, several times, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=96, help="pictures per measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    pairs = []
    for repeat in range(arguments.repeats):
        pairs.append(_measure_pair(arguments.count, arguments.seed + repeat, is_batched_first=repeat % 2 == 0))
        rates = ", ".join(f"{way} {measured.critiques_per_s:.2f}/s" for way, measured in pairs[-1].items())
        sys.stdout.write(f"repeat {repeat + 1}: {rates}, {_factor(pairs[-1]):.2f} times\n")
        sys.stdout.flush()
    about = where() | {"threads": THREADS, "seed": arguments.seed, "pictures": arguments.count}
    write_report(arguments.out, {"about": about} | _summarise(pairs))


def _measure_pair(count: int, seed: int, is_batched_first: bool) -> dict[str, Measurement]:
    ways = (BATCHED, ONE_AT_A_TIME) if is_batched_first else (ONE_AT_A_TIME, BATCHED)
    return {way: _measure_apart(way, count, seed) for way in ways}


def _measure_apart(way: str, count: int, seed: int) -> Measurement:
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as apart:
        return apart.submit(_measure, way, count, seed).result()


def _measure(way: str, count: int, seed: int) -> Measurement:
    torch.set_num_threads(THREADS)
    transformers.utils.logging.disable_progress_bar()
    return asyncio.run(_judge_all(way, _draw_pictures(seed, count + WARM_UP_COUNT)))


async def _judge_all(way: str, pictures: Sequence[ExplainedPicture]) -> Measurement:
    open_engine, size = WAYS[way]
    async with open_engine() as engine:
        translating = Translating(engine, load_profile("nano"), None, seed=0)
        loaded_bytes = psutil.Process().memory_info().rss
        await _judge(translating, pictures[:WARM_UP_COUNT], size)
        measured = pictures[WARM_UP_COUNT:]
        started = time.perf_counter()
        failures = await _judge(translating, measured, size)
        elapsed_s = time.perf_counter() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Measurement(len(measured) / elapsed_s, sum(map(bool, failures)), loaded_bytes, peak_bytes)


async def _judge(translating: Translating, pictures: Sequence[ExplainedPicture], size: int) -> list[str]:
    """Failures, "" for none, in order. Requests of `size` pictures: one request after the other when it is 1."""

    async def translate(first: int) -> list[str]:
        critiques = await translating.translate(NO_DIGEST, SPECIFICATION, pictures[first : first + size])
        return [critique.failure for critique in critiques]

    firsts = range(0, len(pictures), size)
    if size == 1:
        return [failure for first in firsts for failure in await translate(first)]
    return [failure for failures in await asyncio.gather(*map(translate, firsts)) for failure in failures]


class OneAtATime:
    """The `Engine` port as one would write it without an engine: a `generate` call per question."""

    name = "generate"
    model_id = "plumbline/nano"

    def __init__(self) -> None:
        self._processor = AutoProcessor.from_pretrained(NANO, local_files_only=True)
        self._template = ChatTemplate(self._processor)
        self._model = AutoModelForImageTextToText.from_pretrained(
            NANO, dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).eval()

    async def answer(self, question: Question) -> str:
        """See the port; blocks the loop, where nobody else waits."""
        pictures = [list(question.images)] if question.images else None
        inputs = self._processor(text=[self._template.render(question)], images=pictures, return_tensors="pt")
        with torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=question.max_new_tokens, do_sample=False)
        return self._processor.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


def _open_batched() -> AbstractAsyncContextManager[Engine]:
    return build_engine(LvlmSettings(listen="127.0.0.1:0", threads=THREADS, answer_timeout_s=3600))


@asynccontextmanager
async def _open_one_at_a_time():
    yield OneAtATime()


WAYS: dict[str, tuple[Callable[[], AbstractAsyncContextManager[Engine]], int]] = {
    BATCHED: (_open_batched, REQUEST_SIZE),
    ONE_AT_A_TIME: (_open_one_at_a_time, 1),
}


def _draw_pictures(seed: int, count: int) -> list[ExplainedPicture]:
    digits = load_splits("digits", seed=seed).train
    rows = np.random.default_rng(seed).choice(len(digits.labels), count, replace=False)
    return [_explain(digits, row) for row in rows]


def _explain(digits: DecoyDigits, row: int) -> ExplainedPicture:
    """A picture with three segments: the square, and the digit's ink in its upper and its lower half."""
    square = digits.squares[row]
    ink = (digits.pictures[row] > 0) & ~square
    upper = np.arange(len(ink))[:, None] < len(ink) // 2
    masks = [square, ink & upper, ink & ~upper]
    segments = tuple(Segment(number, 1 / len(masks), mask) for number, mask in enumerate(masks, start=1))
    label = str(digits.labels[row])
    return ExplainedPicture(str(row), NO_DIGEST, digits.pictures[row], label, label, segments)


def _factor(pair: dict[str, Measurement]) -> float:
    return pair[BATCHED].critiques_per_s / pair[ONE_AT_A_TIME].critiques_per_s


def _summarise(pairs: Sequence[dict[str, Measurement]]) -> dict[str, Any]:
    factors = [_factor(pair) for pair in pairs]
    return {
        "ways": {way: _summarise_way([pair[way] for pair in pairs]) for way in WAYS},
        "factor_median": round(statistics.median(factors), 2),
        "factor_least": round(min(factors), 2),
        "factors": [round(factor, 2) for factor in factors],
    }


def _summarise_way(measured: Sequence[Measurement]) -> dict[str, Any]:
    rates = [measurement.critiques_per_s for measurement in measured]
    return {
        "critiques_per_s_median": round(statistics.median(rates), 2),
        "critiques_per_s": [round(rate, 2) for rate in rates],
        "failed_critiques": sum(measurement.failed_count for measurement in measured),
        "loaded_mib": _mib(max(measurement.loaded_bytes for measurement in measured)),
        "peak_mib": _mib(max(measurement.peak_bytes for measurement in measured)),
    }


def _mib(count: int) -> float:
    return round(count / 2**20, 1)


if __name__ == "__main__":
    main()

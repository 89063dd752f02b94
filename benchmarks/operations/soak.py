"""The whole stack under steady load: does anything fail, slow down or grow?

Run: python -m benchmarks.operations.soak --out FILE [--minutes 30] [--share 0.7] [--job-every 300] [--seed 0]

Callers ask for a mix: `MIX` says how often what. First the highest rate is measured: 8 and 16 callers who ask anew when they were answered, while jobs run
one after the other. Then requests come at `share` of that rate, at moments that no answer moves (Poisson), and a job is filed every `job-every` seconds, or when the one before has ended.
Latency is counted from the moment a request was due; nothing is asked again. A job must end REJECTED: its gate asks for what no training reaches, for a publication
leaves one more version loaded, and that is memory on purpose.

Memory: see `memory.py`; what counts as noise was written down before the first run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.decoy.data import load_splits
from benchmarks.explainer.cases import SMALL_CNN, draw_pictures
from benchmarks.explainer.load import ask_when_due, drive, summarise_seconds
from benchmarks.operations.memory import MemoryWatch
from benchmarks.provenance import where, write_report
from benchmarks.reliability.stage import NEVER_PUBLISHED, SPECIFICATION, make_model, serving, small_job
from plumbline.client import Client, explained_images
from plumbline.errors import PlumblineError
from plumbline.names import short_name
from plumbline.specification import load_specification
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

MODEL = "digits"
MIX = {"predict": 0.50, "explain": 0.38, "critique": 0.08, "describe": 0.04}
"""How often what: a picture's class; its map and segments; verdicts on the segments of 4 explained pictures; 12 explained pictures in words."""
CRITIQUED, DESCRIBED = 4, 12
PICTURES = 64
PICTURES_PER_CLASS, CRITIQUED_PER_CLASS = 40, 6
CALLERS = (8, 16)
WARM_UP_REQUESTS, RATE_S = 64, 20.0
JOB_S = 900.0
"""Longest time for a job."""
_SCHEDULE = 100_000


@dataclass(frozen=True)
class Answer:
    """What came of a request."""

    kind: str
    code: str
    took_s: float


@dataclass(frozen=True)
class JobEnd:
    """How a job ended, and after how many seconds."""

    state: str
    took_s: float


class Asking:
    """Asks for what is due; may be shared by threads."""

    def __init__(self, client: Client, pictures: Sequence[tuple[str, bytes]], labels: Sequence[str], seed: int) -> None:
        self._pictures = pictures
        self._kinds = np.random.default_rng(seed).choice(list(MIX), _SCHEDULE, p=list(MIX.values()))
        model, explanations = client.explain(MODEL, pictures[:DESCRIBED])
        described = explained_images(pictures[:DESCRIBED], explanations)
        specification = load_specification(SPECIFICATION).specification
        critiqued = explained_images(pictures[:CRITIQUED], explanations[:CRITIQUED])
        for image, label in zip(critiqued, labels, strict=False):
            image.true_label = label
        self._ways: Mapping[str, Callable[[int], object]] = {
            "predict": lambda number: client.predict(MODEL, [self._picture(number)]),
            "explain": lambda number: client.explain(MODEL, [self._picture(number)]),
            "critique": lambda _: client.translate(model, specification, critiqued),
            "describe": lambda _: client.describe(model, described),
        }

    def ask(self, number: int, due_s: float | None = None) -> Answer:
        """Request `number`; `due_s` is now unless given."""
        due_s = time.perf_counter() if due_s is None else due_s
        kind, code = str(self._kinds[number % _SCHEDULE]), "OK"
        try:
            self._ways[kind](number)
        except PlumblineError as error:
            code = error.code
        return Answer(kind, code, time.perf_counter() - due_s)

    def ask_surely(self, number: int) -> None:
        """Raises `RuntimeError` when request `number` fails."""
        answer = self.ask(number)
        if answer.code != "OK":
            raise RuntimeError(f"{answer.kind} failed with {answer.code}")

    def _picture(self, number: int) -> tuple[str, bytes]:
        return self._pictures[number % len(self._pictures)]


def main() -> None:
    """Measure the capacity, soak, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--share", type=float, default=0.7, help="of the highest rate")
    parser.add_argument(
        "--job-every", type=float, default=300.0, help="seconds from one job's filing to the next one's"
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(Path(folder) / "model", PICTURES_PER_CLASS)
        stack = serving(Path(folder) / "stack", model, {})
        with stack as layout, Client(layout.explainer, layout.lvlm, layout.trainer) as client:
            path, digest = store_bundle(layout.store, MODEL, model / "bundle")
            client.publish(MODEL, path, 0, digest)
            result = _measure(
                layout, client, arguments.minutes * 60, arguments.share, arguments.job_every, arguments.seed
            )
    about = where() | {"seed": arguments.seed, "minutes": arguments.minutes, "mix": MIX}
    write_report(arguments.out, {"about": about} | result)


def _measure(
    layout: StackLayout, client: Client, seconds: float, share: float, job_every_s: float, seed: int
) -> dict[str, Any]:
    pictures = [(f"{row}.png", data) for row, data in enumerate(draw_pictures(SMALL_CNN, 0, PICTURES))]
    labels = [str(label) for label in load_splits("digits").test.labels[:PICTURES]]
    asking = Asking(client, pictures, labels, seed)
    drive(asking.ask_surely, CALLERS[0], WARM_UP_REQUESTS)
    quiet = _highest_rate(asking)
    with _filing_jobs(client, 0.0, seed, "capacity"):
        busy = _highest_rate(asking)
    rate = share * max(busy.values())
    _tell(f"highest rate {quiet}/s, {busy}/s beside jobs; soaking at {rate:.1f}/s")
    with MemoryWatch(layout) as memory, _filing_jobs(client, job_every_s, seed, "soak") as jobs:
        answers = ask_when_due(asking.ask, rate, seed, lambda elapsed_s: elapsed_s > seconds)
    result = {
        "highest_rate_per_s": {"without_jobs": quiet, "beside_jobs": busy},
        "asked_per_s": round(rate, 2),
        "requests": summarise(answers),
        "jobs": {"every_s": job_every_s} | summarise_jobs(jobs),
        "memory": memory.summarise(),
    }
    _tell(json.dumps(result["requests"]))
    return result


def _highest_rate(asking: Asking) -> dict[str, float]:
    """Requests per second by how many callers ask at once."""
    rates = {}
    for callers in CALLERS:
        first = drive(asking.ask_surely, callers, WARM_UP_REQUESTS).pictures_per_s
        rates[f"{callers} callers"] = round(
            drive(asking.ask_surely, callers, max(WARM_UP_REQUESTS, round(first * RATE_S))).pictures_per_s, 1
        )
    return rates


@contextmanager
def _filing_jobs(client: Client, every_s: float, seed: int, key: str) -> Iterator[list[JobEnd]]:
    """File a job and see it to its end, again and again while the block runs; yields what the ended ones came to.

    Raises
    ------
    PlumblineError
        At the block's end, when a job could not be filed or watched.
    """
    ended: list[JobEnd] = []
    is_over = threading.Event()

    def file() -> None:
        number, due_s = 0, time.monotonic()
        while not is_over.wait(max(0.0, due_s - time.monotonic())):
            due_s = time.monotonic() + every_s
            ended.append(_run_job(client, seed + number, f"{key}-{number}"))
            number += 1

    with ThreadPoolExecutor(1) as pool:
        filing = pool.submit(file)
        try:
            yield ended
        finally:
            is_over.set()
        filing.result()


def _run_job(client: Client, seed: int, key: str) -> JobEnd:
    started_s = time.perf_counter()
    request = small_job(key, MODEL, CRITIQUED_PER_CLASS, seed, NEVER_PUBLISHED)
    for alignment in client.watch(client.submit(request).job_id, JOB_S):
        state = short_name(trainer_pb.JobState, alignment.state)
    return JobEnd(state, time.perf_counter() - started_s)


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """How many failed and how, and milliseconds by kind."""
    failed = [answer for answer in answers if answer.code != "OK"]
    took_s = {kind: [answer.took_s for answer in answers if (answer.kind, answer.code) == (kind, "OK")] for kind in MIX}
    return {
        "asked": len(answers),
        "failed": len(failed),
        "error_rate": len(failed) / len(answers),
        "codes": Counter(f"{answer.kind} {answer.code}" for answer in failed),
        "latency_ms": {kind: summarise_seconds(seconds) if seconds else None for kind, seconds in took_s.items()},
    }


def summarise_jobs(jobs: Sequence[JobEnd]) -> dict[str, Any]:
    """How they ended, and how long they took, seconds."""
    took_s = [job.took_s for job in jobs]
    return {
        "ended": Counter(job.state for job in jobs),
        "took_s": {"median": round(float(np.median(took_s)), 1), "most": round(max(took_s), 1)} if took_s else None,
    }


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

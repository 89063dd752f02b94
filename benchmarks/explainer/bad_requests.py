"""Ten thousand bad requests to a real explainer: does one of them break it, make it grow, or keep the next good one from its answer?

Run: python -m benchmarks.explainer.bad_requests --out FILE [--count 10000] [--seed 0]

A local stack serves a small model on real Triton. Several callers at once send what `malformed` makes; after every tenth a good request is asked, and its answer
must be the one from before, up to float sums in another order. Memory is the least that the explainer's process holds in a few seconds of rest, for a picture whose caller
left is still being decoded then: after the warm-up, after each tenth, and after a hundred good requests at the end, for what the last large request took may stay until others come.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import torch
import transformers

from benchmarks.decoy.data import load_splits
from benchmarks.decoy.shortcut_model import train_shortcut_model, write_bundle
from benchmarks.explainer.malformed import PATIENT, BadRequest, good_picture, make_bad_request
from benchmarks.provenance import where, write_report
from plumbline.client import Client
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.stack.bundles import store_bundle
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import StackLayout

MODEL, MODEL_EPOCHS = "digits", 100
CALLERS = 4
GOOD_EVERY = 10
GOOD_AT_THE_END = 100
TOLERANCE = 1e-4
PARTS = 10
REST_S, REST_LOOKS = 3.0, 6
SLOWEST = 5
BROKEN = ("INTERNAL", "UNKNOWN", "UNAVAILABLE", "DATA_LOSS")
"""Codes that say that the service failed, not the caller."""
_SERVICE = pb.DESCRIPTOR.services_by_name["ExplainerService"].full_name
_MESSAGE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Answer:
    """What came of request `number`: the status code, its words, and how long it took."""

    number: int
    kind: str
    code: str
    details: str
    seconds: float


class Callers:
    """Callers of one explainer, who send bytes as they are."""

    def __init__(self, address: str, model: str, seed: int) -> None:
        options = [("grpc.max_send_message_length", _MESSAGE_BYTES), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(address, options=options)
        self._model = model
        self._seed = seed
        request = pb.PredictRequest(model={"name": model}, images=[{"data": good_picture("grey png", 0)}])
        self._good = BadRequest("good", "Predict", request.SerializeToString())
        self._expected = _probabilities(self._call(self._good))

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def ask(self, number: int) -> list[Answer]:
        """Bad request `number`, and after every tenth a good one, whose code is CHANGED when it is answered otherwise than before."""
        answers = [self._time(number, make_bad_request(number, self._seed, self._model))]
        if number % GOOD_EVERY == 0:
            answers.append(self._time(number, self._good))
        return answers

    def ask_all(self, numbers: Sequence[int]) -> list[Answer]:
        """All of `numbers`, several at once."""
        with ThreadPoolExecutor(CALLERS) as pool:
            return [answer for answers in pool.map(self.ask, numbers) for answer in answers]

    def ask_good(self, count: int) -> None:
        """The good request, one after the other."""
        for _ in range(count):
            self._call(self._good)

    def _time(self, number: int, request: BadRequest) -> Answer:
        started = time.perf_counter()
        try:
            reply = self._call(request)
            code, details = "OK", ""
            if request is self._good and np.abs(_probabilities(reply) - self._expected).max() > TOLERANCE:
                code = "CHANGED"
        except grpc.RpcError as error:
            code, details = error.code().name, error.details() or ""
        return Answer(number, request.kind, code, details, time.perf_counter() - started)

    def _call(self, request: BadRequest) -> bytes:
        return self._channel.unary_unary(f"/{_SERVICE}/{request.method}")(request.message, timeout=request.timeout_s)


def _probabilities(reply: bytes) -> np.ndarray:
    return np.array(pb.PredictResponse.FromString(reply).predictions[0].probabilities)


def main() -> None:
    """Ask, count, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        digits = load_splits("digits").train
        write_bundle(bundle, train_shortcut_model(digits, 0, MODEL_EPOCHS), digits, 0, MODEL_EPOCHS)
        with tied_stack(Path(folder) / "stack") as layout:
            result = _measure(layout, bundle, arguments.count, arguments.seed)
    write_report(arguments.out, result)


def _measure(layout: StackLayout, bundle: Path, count: int, seed: int) -> dict[str, Any]:
    explainer = find_explainer(layout)
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        path, digest = store_bundle(layout.store, MODEL, bundle)
        client.publish(MODEL, path, 0, digest)
    with Callers(layout.explainer, MODEL, seed) as callers:
        # Other numbers than those that count: libraries are loaded and pools filled before memory is looked at.
        callers.ask_all(range(count, count + count // 20))
        memory, answers = [_rest(explainer)], []
        elapsed_s = 0.0
        for numbers in _split(count):
            started = time.perf_counter()
            answers += callers.ask_all(numbers)
            elapsed_s += time.perf_counter() - started
            memory.append(_rest(explainer))
            sys.stdout.write(f"{len(numbers)} more asked, explainer holds {memory[-1]} MiB\n")
            sys.stdout.flush()
        callers.ask_good(GOOD_AT_THE_END)
        memory_after_good = _rest(explainer)
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        served = [f"{entry.model.name} {entry.model.version}" for entry in client.models()]
    lines = (layout.logs / "explainer.log").read_text().splitlines()
    log = [json.loads(line) for line in lines if line.startswith("{")]
    about = where() | {"seed": seed, "callers": CALLERS}
    return (
        {"about": about}
        | summarise(answers)
        | {
            "seconds": round(elapsed_s, 1),
            "explainer_mib_at_rest": memory,
            "explainer_mib_after_good_requests": memory_after_good,
            "explainer_restarts": int(find_explainer(layout).pid != explainer.pid),
            "served_after": served,
            "errors_in_log": Counter(entry["message"] for entry in log if entry["level"] == "ERROR"),
            "patient_in_log": any(PATIENT in line for line in lines),
        }
    )


def find_explainer(layout: StackLayout) -> psutil.Process:
    """The explainer's process."""
    return psutil.Process(layout.read_pids()["explainer"])


def summarise(answers: Sequence[Answer]) -> dict[str, Any]:
    """Counts by kind and code, what broke, and latencies."""
    bad = [answer for answer in answers if answer.kind != "good"]
    good = [answer for answer in answers if answer.kind == "good"]
    by_kind: dict[str, Counter[str]] = {}
    for answer in bad:
        by_kind.setdefault(answer.kind, Counter())[answer.code] += 1
    return {
        "bad_requests": len(bad),
        "codes": Counter(answer.code for answer in bad),
        "codes_by_kind": dict(sorted(by_kind.items())),
        "broken": [f"{answer.number}: {answer.code} {answer.details[:200]}" for answer in bad if answer.code in BROKEN],
        "patient_in_answers": sum(PATIENT in answer.details for answer in answers),
        "good_requests": Counter(answer.code for answer in good),
        "bad_latency_ms": _latencies(bad),
        "good_latency_ms": _latencies(good),
        "slowest": [
            f"{answer.number}: {answer.kind}, {answer.code}, {answer.seconds:.1f} s"
            for answer in sorted(bad, key=lambda answer: -answer.seconds)[:SLOWEST]
        ],
    }


def _latencies(answers: Sequence[Answer]) -> dict[str, float]:
    spent = [answer.seconds * 1000 for answer in answers]
    cuts = statistics.quantiles(spent, n=100, method="inclusive")
    return {"median": round(cuts[49], 1), "p99": round(cuts[98], 1), "most": round(max(spent), 1)}


def _split(count: int) -> Iterator[range]:
    ends = [count * part // PARTS for part in range(PARTS + 1)]
    yield from (range(start, end) for start, end in itertools.pairwise(ends))


def _rest(process: psutil.Process) -> float:
    """The least that the process holds in the next seconds, MiB."""
    held = []
    for _ in range(REST_LOOKS):
        time.sleep(REST_S / REST_LOOKS)
        held.append(process.memory_info().rss / 2**20)
    return round(min(held), 1)


if __name__ == "__main__":
    main()

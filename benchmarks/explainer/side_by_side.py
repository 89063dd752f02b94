"""The explainer beside captum behind LitServe, FastAPI and MLServer: the same net, pictures, method, machine and number of threads.

Run: python -m benchmarks.explainer.side_by_side --out FILE [--case NAME …] [--repeats R] [--threads T] [--mlserver-python PATH] [--seed S] [--quick]

Needs LitServe, and MLServer to have it too: see benchmarks/README.md. Each side is one process that computes, with `threads` threads for the others and one for ours, and answers with the predicted
class and its map; ours without segments, which the others don't have. The others get JSON over HTTP with kept connections, as their documentation has it, LitServe with
batches too. Before a second is counted every side's maps are held against those of this process. All servers are up throughout; one is asked at a time. A repeat takes every side, in
changing order, and ratios are taken within it. Callers are as in `throughput`.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.explainer.captum_answers import LABEL_HEADER
from benchmarks.explainer.cases import (
    CASES,
    DEEP_LIFT_SHAP,
    RESNET18,
    SMALL_CNN,
    Case,
    Explain,
    Work,
    check_same_maps,
    draw_pictures,
    write_net,
)
from benchmarks.explainer.load import Load, drive, summarise_latencies, summarise_rates, summarise_ratios
from benchmarks.explainer.served import CALL_TIMEOUT_S, Caller, publish, read_maps
from benchmarks.provenance import where, write_report
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import SOURCE_ROOT
from plumbline.stack.processes import Child, Command, free_port, start, stop, tail

MANY = 32
PICTURES = 32
OURS = "plumbline"
CASES_HERE = tuple(case for case in CASES if case.method == DEEP_LIFT_SHAP)
COUNTS = {SMALL_CNN: {1: 64, MANY: 192}, RESNET18: {1: 4, MANY: 32}}
"""Requests in a measurement, by callers."""
READY_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Protocol:
    """How a kind of server is asked over HTTP and answers. `wrap` makes JSON's content of a file in base64, `read` the label and the flat map of a reply."""

    path: str
    ready_path: str
    wrap: Callable[[str], dict[str, Any]]
    read: Callable[[http.client.HTTPResponse], tuple[str, np.ndarray]]


def _wrap_open_inference(image: str) -> dict[str, Any]:
    given = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [image]}
    return {"inputs": [given | {"parameters": {"content_type": "base64"}}]}


def _read_open_inference(reply: http.client.HTTPResponse) -> tuple[str, np.ndarray]:
    outputs = {output["name"]: output["data"][0] for output in json.load(reply)["outputs"]}
    return outputs["label"], np.frombuffer(base64.b64decode(outputs["map"]), "<f4")


PLAIN = Protocol(
    "/predict",
    "/health",
    lambda image: {"image": image},
    lambda reply: (reply.headers[LABEL_HEADER], np.frombuffer(reply.read(), "<f4")),
)
OPEN_INFERENCE = Protocol(
    "/v2/models/explainer/infer", "/v2/models/explainer/ready", _wrap_open_inference, _read_open_inference
)


@dataclass(frozen=True)
class Other:
    """A server by its module here, and how many pictures it may take in a call of captum."""

    module: str
    batch: int = 1
    protocol: Protocol = PLAIN


MLSERVER = "captum, MLServer"
OTHERS = {
    "captum, LitServe": Other("captum_litserve"),
    "captum, LitServe, batches of 8": Other("captum_litserve", 8),
    "captum, FastAPI": Other("captum_fastapi"),
    MLSERVER: Other("captum_mlserver", protocol=OPEN_INFERENCE),
}


class HttpCaller:
    """Asks the server at `port`; every thread keeps a connection of its own."""

    def __init__(self, port: int, protocol: Protocol) -> None:
        self._port = port
        self._protocol = protocol
        self._mine = threading.local()

    def explain(self, file: bytes) -> tuple[str, np.ndarray]:
        """The label and the flat map; raises `RuntimeError` when it is not answered."""
        connection = self._connection()
        body = json.dumps(self._protocol.wrap(base64.b64encode(file).decode()))
        connection.request("POST", self._protocol.path, body, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        if reply.status != http.HTTPStatus.OK:
            raise RuntimeError(f"port {self._port}: status {reply.status}: {reply.read()[:200]!r}")
        return self._protocol.read(reply)

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=CALL_TIMEOUT_S)
        return self._mine.connection


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES_HERE], help="all, unless given")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of each of the others")
    parser.add_argument("--mlserver-python", help="a Python that has MLServer; without it MLServer is left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one repeat: to see that it runs")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    repeats = 1 if arguments.quick else arguments.repeats
    pythons = dict.fromkeys(OTHERS, sys.executable) | {MLSERVER: arguments.mlserver_python}
    pythons = {side: python for side, python in pythons.items() if python}
    cases = [case for case in CASES_HERE if not arguments.case or case.name in arguments.case]
    with tempfile.TemporaryDirectory() as folder, tied_stack(Path(folder) / "stack") as layout:
        results = {}
        for case in cases:
            bundle = Path(folder) / case.net
            write_net(bundle, case.net, arguments.seed)
            publish(layout, case.net, bundle)
            with (
                _serve_others(case, bundle, pythons, arguments.threads, Path(folder) / "log") as others,
                Caller(layout.explainer) as caller,
            ):
                results[case.name] = _measure(case, bundle, caller, others, repeats, arguments.seed)
    about = where() | {"threads": {OURS: 1} | dict.fromkeys(pythons, arguments.threads)}
    about |= {"seed": arguments.seed, "repeats": repeats, "quick": arguments.quick}
    write_report(arguments.out, {"about": about, "cases": results})


@contextmanager
def _serve_others(
    case: Case, bundle: Path, pythons: Mapping[str, str], threads: int, logs: Path
) -> Iterator[dict[str, HttpCaller]]:
    """The servers that `pythons` names, each run by its Python, ready to be asked."""
    with ExitStack() as running:
        started: dict[str, tuple[Child, int]] = {}
        for side, python in pythons.items():
            port, other = free_port(), OTHERS[side]
            told = {"bundle": bundle, "method": case.method, "port": port, "threads": threads, "batch": other.batch}
            options = [word for name, value in told.items() for word in (f"--{name}", str(value))]
            command = [python, "-P", "-m", f"benchmarks.explainer.{other.module}", *options]
            child = start(Command(f"{other.module}-{other.batch}", command, {"PYTHONPATH": str(SOURCE_ROOT)}), logs)
            running.callback(stop, [child])
            started[side] = (child, port)
        for side, (child, port) in started.items():
            _wait_ready(child, port, OTHERS[side].protocol.ready_path, logs)
        yield {side: HttpCaller(port, OTHERS[side].protocol) for side, (_, port) in started.items()}


def _wait_ready(child: Child, port: int, path: str, logs: Path) -> None:
    name, end = child.command.name, time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < end:
        if child.process.poll() is not None:
            raise RuntimeError(f"{name} ended at start:\n{tail(logs / f'{name}.log')}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.2)
    raise RuntimeError(f"{name} was not ready in {READY_TIMEOUT_S:.0f} s:\n{tail(logs / f'{name}.log')}")


def _measure(
    case: Case, bundle: Path, caller: Caller, others: Mapping[str, HttpCaller], repeats: int, seed: int
) -> dict[str, Any]:
    work, files = Work(bundle, case.method), draw_pictures(case.net, seed, PICTURES)
    _check_sides(case, work, files, caller, others)

    def ask_ours(number: int) -> None:
        caller.explain(case.net, case.method, [files[number % PICTURES]])

    def ask_other(side: str, number: int) -> None:
        others[side].explain(files[number % PICTURES])

    sides = {OURS: ask_ours} | {side: partial(ask_other, side) for side in others}
    loads: dict[int, dict[str, list[Load]]] = {callers: {side: [] for side in sides} for callers in COUNTS[case.net]}
    for repeat in range(repeats):
        for callers, count in COUNTS[case.net].items():
            for side in list(sides) if repeat % 2 == 0 else reversed(sides):
                loads[callers][side].append(drive(sides[side], callers, count))
            told = ", ".join(f"{side} {taken[-1].pictures_per_s:.2f}/s" for side, taken in loads[callers].items())
            sys.stdout.write(f"{case.name}: repeat {repeat + 1}, {callers} callers: {told}\n")
            sys.stdout.flush()
    return {f"{callers} callers": _summarise(taken) for callers, taken in loads.items()}


def _check_sides(
    case: Case, work: Work, files: Sequence[bytes], caller: Caller, others: Mapping[str, HttpCaller]
) -> None:
    """Hold what every side says of two pictures against its own method in this process; also warms them up."""
    _check_answers(OURS, work, work.explain_ours, files, [_ask_ours(case, caller, file) for file in files[:2]])
    for side, other in others.items():
        _check_answers(side, work, work.explain_captum, files, [other.explain(file) for file in files[:2]])


def _check_answers(
    side: str, work: Work, explain: Explain, files: Sequence[bytes], answers: Sequence[tuple[str, np.ndarray]]
) -> None:
    logits, maps = explain(work.read(files[: len(answers)]))
    labels = [work.labels[row] for row in logits.argmax(dim=1).tolist()]
    if labels != [label for label, _ in answers]:
        raise RuntimeError(f"{side} explains {[label for label, _ in answers]}; expected {labels}")
    check_same_maps(maps.flatten(1).numpy(), np.stack([found for _, found in answers]), side)


def _ask_ours(case: Case, caller: Caller, file: bytes) -> tuple[str, np.ndarray]:
    reply = caller.explain(case.net, case.method, [file])
    return reply.explanations[0].target_label, read_maps(reply)[0].ravel()


def _summarise(loads: Mapping[str, Sequence[Load]]) -> dict[str, Any]:
    return {
        "pictures_per_s": {side: summarise_rates(taken) for side, taken in loads.items()},
        "ours_against": {side: summarise_ratios(loads[OURS], taken) for side, taken in loads.items() if side != OURS},
        "latency_ms": {side: summarise_latencies(taken) for side, taken in loads.items()},
    }


if __name__ == "__main__":
    main()

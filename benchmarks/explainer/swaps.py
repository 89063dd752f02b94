"""Versions that change under load: is a request lost, or answered in another version's name? And what callers see when Triton is killed.

Run: python -m benchmarks.explainer.swaps --out FILE [--swaps 10] [--minutes 2] [--share 0.5] [--seed S] [--quick]

A small CNN is served by the whole stack. Its highest rate of `Explain` (maps without segments, 32 callers) is measured first; then requests come at `share` of that rate, at times that no
answer moves (Poisson), while version after version is published, each with other parameters. Every answer must name a version and digest that were published, and be that version's own: probabilities
as this process computes them with those weights, which all other versions' miss by far. Latency is counted from the moment a request was due.

Where publications take longer than the time allows, requests go on until the last is through, and the time it took is told.

Then Triton is killed, while callers ask on. Every failure must be UNAVAILABLE, and how long it took is told; the stack's supervisor starts Triton again and the explainer, the same process, loads
what it serves. Triton is back when it says that it is live.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import torch
import transformers

from benchmarks.explainer.bad_requests import find_explainer
from benchmarks.explainer.cases import DEEP_LIFT_SHAP, SMALL_CNN, Work, draw_pictures, write_net
from benchmarks.explainer.load import ask_when_due, drive, summarise_seconds
from benchmarks.explainer.served import Caller, publish, wait_live
from benchmarks.provenance import where, write_report
from plumbline.stack.control import tied_stack
from plumbline.stack.layout import StackLayout
from services.common.vision.model_bundle import bundle_digest

CALLERS = 32
"""Who measure the highest rate."""
WATCHERS = 8
"""Who ask while Triton is away."""
RATE_REQUESTS = 640
PICTURES = 32
TOLERANCE = 1e-4
"""Largest difference of two probabilities that are the same."""
ASK_EVERY_S = 0.1
"""How long each of them waits before it asks again."""
CALM_S = 3.0
"""How long all must be answered before Triton's loss is over."""
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Answer:
    """What came of a request: `due_s` and `ended_s` by one clock, the status code, and the version that it names, 0 when it names none."""

    due_s: float
    ended_s: float
    code: str
    version: int = 0
    is_own: bool = False
    """Whether it is what that version says."""

    @property
    def took_s(self) -> float:
        return self.ended_s - self.due_s


class Asking:
    """Asks for pictures' maps and holds every answer against the version that it names."""

    def __init__(self, caller: Caller, files: Sequence[bytes]) -> None:
        self._caller = caller
        self._files = files
        self._expected: dict[tuple[int, str], np.ndarray] = {}

    def expect(self, version: int, digest: str, probabilities: np.ndarray) -> None:
        """What a version says of each picture: (picture, class).

        Raises
        ------
        RuntimeError
            When another version says nearly the same of a picture: its answers could not be told apart.
        """
        for (other, _), others in self._expected.items():
            if np.abs(probabilities - others).max(axis=1).min() < 10 * TOLERANCE:
                raise RuntimeError(f"versions {other} and {version} say the same of a picture; take another seed")
        self._expected[version, digest] = probabilities

    def ask(self, number: int, due_s: float | None = None) -> Answer:
        """Ask for one picture; `due_s` is now unless given."""
        picture, due_s = number % len(self._files), time.perf_counter() if due_s is None else due_s
        try:
            reply = self._caller.explain(SMALL_CNN, DEEP_LIFT_SHAP, [self._files[picture]])
        except grpc.RpcError as error:
            return Answer(due_s, time.perf_counter(), error.code().name)
        ended_s = time.perf_counter()
        expected = self._expected.get((reply.model.version, reply.model.digest))
        found = np.array(reply.explanations[0].prediction.probabilities)
        is_own = expected is not None and bool(np.abs(found - expected[picture]).max() <= TOLERANCE)
        return Answer(due_s, ended_s, "OK", reply.model.version, is_own)


def main() -> None:
    """Swap, kill, and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--swaps", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--share", type=float, default=0.5, help="of the highest rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="two swaps in half a minute: to see that it runs")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    swap_count, minutes = (2, 0.5) if arguments.quick else (arguments.swaps, arguments.minutes)
    with tempfile.TemporaryDirectory() as folder, tied_stack(Path(folder) / "stack") as layout:
        bundles = [Path(folder) / f"bundle-{number}" for number in range(swap_count + 1)]
        for number, bundle in enumerate(bundles):
            write_net(bundle, SMALL_CNN, arguments.seed + number)
        with Caller(layout.explainer) as caller:
            result = _measure(layout, caller, bundles, minutes * 60, arguments.share, arguments.seed)
    about = where() | {"seed": arguments.seed, "callers": CALLERS, "watchers": WATCHERS, "quick": arguments.quick}
    write_report(arguments.out, {"about": about} | result)


def _measure(
    layout: StackLayout, caller: Caller, bundles: Sequence[Path], seconds: float, share: float, seed: int
) -> dict[str, Any]:
    asking = Asking(caller, draw_pictures(SMALL_CNN, seed, PICTURES))
    explainer = find_explainer(layout)

    def swap(number: int) -> float:
        """Publish bundle `number` as the next version; how long it took."""
        started = time.perf_counter()
        _expect(asking, bundles[number], number + 1, seed)
        if publish(layout, SMALL_CNN, bundles[number], number).version != number + 1:
            raise RuntimeError(f"expected version {number + 1}")
        return time.perf_counter() - started

    swap(0)
    drive(asking.ask, CALLERS, CALLERS)
    highest = drive(asking.ask, CALLERS, RATE_REQUESTS).pictures_per_s
    _tell(f"highest rate {highest:.1f}/s")
    steady = ask_when_due(asking.ask, share * highest, seed, lambda elapsed_s: elapsed_s > seconds / len(bundles))
    with ThreadPoolExecutor(1) as publisher:
        started = time.perf_counter()
        swapping = publisher.submit(_swap_all, swap, len(bundles) - 1, seconds)
        answers = ask_when_due(
            asking.ask, share * highest, seed + 1, lambda elapsed_s: elapsed_s > seconds and swapping.done()
        )
        elapsed_s = time.perf_counter() - started
        swap_s = swapping.result()
    _tell(f"{len(answers)} asked in {elapsed_s:.0f} s, {Counter(answer.code for answer in answers)}")
    return {
        "highest_rate_per_s": round(highest, 1),
        "without_swaps": _summarise_answers(steady, share * highest),
        "swaps": {"swaps": len(swap_s), "publication_s": swap_s, "took_s": round(elapsed_s, 1)}
        | _summarise_answers(answers, share * highest),
        "triton_killed": _kill_triton(layout, asking)
        | {"explainer_restarts": int(find_explainer(layout).pid != explainer.pid)},
    }


def _expect(asking: Asking, bundle: Path, version: int, seed: int) -> None:
    """Tell `asking` what the bundle says of its pictures; before it is published, for its first answers come before the publisher's."""
    work = Work(bundle, DEEP_LIFT_SHAP)
    with torch.inference_mode():
        logits = work.predict(work.read(draw_pictures(SMALL_CNN, seed, PICTURES)))
    asking.expect(version, bundle_digest(bundle), logits.softmax(dim=1).numpy())


def _swap_all(swap: Callable[[int], float], count: int, seconds: float) -> list[float]:
    """Publish version after version, the same time apart within `seconds`, or one right after the other where that takes longer; what each took, seconds."""
    started, took_s = time.perf_counter(), []
    for number in range(1, count + 1):
        time.sleep(max(0.0, started + seconds * (number - 0.5) / count - time.perf_counter()))
        took_s.append(round(swap(number), 2))
    return took_s


def _summarise_answers(answers: Sequence[Answer], rate: float) -> dict[str, Any]:
    answered = [answer for answer in answers if answer.code == "OK"]
    return {
        "asked": len(answers),
        "asked_per_s": round(rate, 1),
        "codes": Counter(answer.code for answer in answers),
        "failed": len(answers) - len(answered),
        "not_the_named_versions_own": sum(not answer.is_own for answer in answered),
        "answers_by_version": dict(sorted(Counter(answer.version for answer in answered).items())),
        "latency_ms": summarise_seconds([answer.took_s for answer in answered]),
    }


def _kill_triton(layout: StackLayout, asking: Asking) -> dict[str, Any]:
    """Kill Triton under callers who ask on, and watch until all have been answered for a while."""
    answers: list[Answer] = []
    is_over = threading.Event()

    def ask_on(number: int) -> None:
        while not is_over.wait(ASK_EVERY_S):
            answers.append(asking.ask(number))

    with ThreadPoolExecutor(WATCHERS) as pool:
        watchers = [pool.submit(ask_on, number) for number in range(WATCHERS)]
        try:
            time.sleep(CALM_S)
            killed_s = time.perf_counter()
            process = psutil.Process(layout.read_pids()["triton"])
            process.send_signal(signal.SIGKILL)
            process.wait()
            live_s = wait_live(layout.triton)
            recovered_s = _wait_calm(answers, killed_s)
        finally:
            is_over.set()
        for watcher in watchers:
            watcher.result()
    hit = [answer for answer in answers if answer.ended_s > killed_s and answer.code != "OK"]
    in_flight = [answer.ended_s - killed_s for answer in hit if answer.due_s <= killed_s]
    later = [answer.took_s for answer in hit if answer.due_s > killed_s]
    _tell(f"killed: {Counter(answer.code for answer in hit)}, back after {recovered_s - killed_s:.1f} s")
    return {
        "codes": Counter(answer.code for answer in answers),
        "failed_before": sum(answer.code != "OK" and answer.ended_s <= killed_s for answer in answers),
        "not_the_named_versions_own": sum(answer.code == "OK" and not answer.is_own for answer in answers),
        "in_flight_told_after_ms": summarise_seconds(in_flight) if in_flight else None,
        "unavailable_takes_ms": summarise_seconds(later) if later else None,
        "triton_live_after_s": round(live_s - killed_s, 2),
        "answered_after_s": round(recovered_s - killed_s, 2),
        "answered_after_triton_live_s": round(recovered_s - live_s, 2),
    }


def _wait_calm(answers: Sequence[Answer], since_s: float) -> float:
    """When the last failure after `since_s` was followed by nothing but answers for `CALM_S`: the first answer after it."""
    end = time.perf_counter() + PATIENCE_S
    while time.perf_counter() < end:
        time.sleep(0.2)
        seen = sorted((answer for answer in list(answers) if answer.ended_s > since_s), key=lambda each: each.ended_s)
        failed = [place for place, answer in enumerate(seen) if answer.code != "OK"]
        after = seen[failed[-1] + 1 :] if failed else seen
        if failed and after and time.perf_counter() - after[0].ended_s > CALM_S:
            return after[0].ended_s
    raise RuntimeError(f"not all were answered within {PATIENCE_S:.0f} s of Triton's end")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""`Explain` through the whole stack against the same maps made in this process.

Run: python -m benchmarks.explainer.throughput --out FILE [--case NAME …] [--repeats R] [--scale S] [--seed S] [--quick]

The stack is real: callers in this process, gRPC over loopback, the explainer, Triton, and the net in Triton's Python backend, which has one process and one thread.
*In process* is one thread too, given pictures that are decoded and preprocessed already: our method as the backend calls it, and captum's of the same definition
(DeepLIFT SHAP over the same baselines; integrated gradients from their mean by as many midpoints), each by as many pictures in a call, or for captum's integrated gradients
rows in a pass, as went fastest when 1 to 32 were tried. All sides work in float32, say the logits and map the predicted class. Before a second is counted their maps are held against
each other. Segments are left out: captum has none; one way has them all the same, to tell what they cost.

A repeat takes every way, one right after the other, in changing order; ratios are taken within a repeat. A caller asks anew when it was answered. *Queue*: what as many
callers wait for who take turns at our method in this process; added latency is what the stack takes beyond that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.explainer.cases import (
    CASES,
    INTEGRATED_GRADIENTS,
    RESNET18,
    SMALL_CNN,
    Case,
    Explain,
    Work,
    check_same_maps,
    draw_pictures,
    map_difference,
    write_net,
)
from benchmarks.explainer.load import (
    Load,
    drive,
    summarise_latencies,
    summarise_rates,
    summarise_ratios,
)
from benchmarks.explainer.served import Caller, publish, read_maps
from benchmarks.provenance import where, write_report
from plumbline.stack.control import tied_stack

THREADS = 1
MANY, TOGETHER_COUNT = 32, 16
BATCH_SIZES = (1, 2, 4, 8, 16, 32)
PICTURES = 32
OURS, CAPTUM = "in process, ours", "in process, captum"
QUEUE = "queue of {}, in process, ours"
STACK = "stack, {} callers"
SEGMENTED, TOGETHER = (
    f"stack, {MANY} callers, with segments",
    f"stack, 2 callers, {TOGETHER_COUNT} pictures in a request",
)


@dataclass(frozen=True)
class Counts:
    """Pictures in a measurement: of one after the other, and of many at once, 0 to leave these ways out."""

    few: int
    many: int


COUNTS = {SMALL_CNN: Counts(few=64, many=128), RESNET18: Counts(few=4, many=32)}
SLOW = Counts(few=2, many=0)
"""A map takes seconds: of 32 callers the last would wait for longer than a call may take."""


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--case", action="append", choices=[case.name for case in CASES], help="all, unless given")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one repeat, few batch sizes: to see that it runs")
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(THREADS)
    cases = [case for case in CASES if not arguments.case or case.name in arguments.case]
    repeats, sizes = (1, BATCH_SIZES[:2]) if arguments.quick else (arguments.repeats, BATCH_SIZES)
    with tempfile.TemporaryDirectory() as folder, tied_stack(Path(folder) / "stack") as layout:
        for net in {case.net for case in cases}:
            write_net(Path(folder) / net, net, arguments.seed)
            publish(layout, net, Path(folder) / net)
        with Caller(layout.explainer) as caller:
            results = {
                case.name: _measure(case, Path(folder) / case.net, caller, repeats, sizes, arguments.seed)
                for case in cases
            }
    about = where() | {"threads": THREADS, "seed": arguments.seed, "repeats": repeats, "quick": arguments.quick}
    write_report(arguments.out, {"about": about, "cases": results})


def _measure(case: Case, bundle: Path, caller: Caller, repeats: int, sizes: Sequence[int], seed: int) -> dict[str, Any]:
    work, files = Work(bundle, case.method), draw_pictures(case.net, seed, PICTURES)
    pixel_values = work.read(files)
    counts = SLOW if (case.net, case.method) == (RESNET18, INTEGRATED_GRADIENTS) else COUNTS[case.net]
    agreement = _check_work(case, work, pixel_values, caller, files)
    captum, size, tried = _choose_captum(case, work, pixel_values, sizes)
    our_size, our_tried = 1, {}
    if counts.many:
        our_size, our_tried = _choose_size(work.explain_ours, pixel_values, sizes)
    ways = _list_ways(case, work, pixel_values, caller, files, counts)
    ways |= {
        CAPTUM: partial(_explain_in_calls, captum, pixel_values, counts.few, size),
        OURS: partial(_explain_in_calls, work.explain_ours, pixel_values, counts.few, our_size),
    }
    loads: dict[str, list[Load]] = {way: [] for way in ways}
    for repeat in range(repeats):
        for way in list(ways) if repeat % 2 == 0 else reversed(ways):
            loads[way].append(ways[way]())
        told = ", ".join(f"{way} {taken[-1].pictures_per_s:.2f}/s" for way, taken in loads.items())
        sys.stdout.write(f"{case.name}: repeat {repeat + 1}: {told}\n")
        sys.stdout.flush()
    return {
        "maps_against_captum": agreement,
        "pictures_per_s_by_batch": {CAPTUM: tried, OURS: our_tried},
        "pictures_per_s": {way: summarise_rates(taken) for way, taken in loads.items()},
        "against_ours_in_process": _over(loads, OURS),
        "against_captum_in_process": _over(loads, CAPTUM),
        "latency_ms": {way: summarise_latencies(taken) for way, taken in loads.items() if way not in (OURS, CAPTUM)},
        "added_latency_ms": {
            STACK.format(callers): _added(loads[STACK.format(callers)], loads[QUEUE.format(callers)])
            for callers in ((1, MANY) if counts.many else (1,))
        },
    }


def _check_work(
    case: Case, work: Work, pixel_values: torch.Tensor, caller: Caller, files: Sequence[bytes]
) -> dict[str, float]:
    """Hold the stack's maps of two pictures, and captum's where they should be the same, against ours; how far captum's are from ours."""
    logits, ours = work.explain_ours(pixel_values[:2])
    reply = caller.explain(case.net, case.method, files[:2])
    check_same_maps(ours.numpy(), read_maps(reply), "the stack")
    said = [explanation.target_label for explanation in reply.explanations]
    if said != [work.labels[row] for row in logits.argmax(dim=1).tolist()]:
        raise RuntimeError(f"the stack explains {said}; expected the classes that are predicted in process")
    _, others = work.explain_captum(pixel_values[:2])
    if case.captum_agrees:
        check_same_maps(ours.numpy(), others.numpy(), "captum")
    return {"largest_difference": round(map_difference(ours.numpy(), others.numpy()), 6)}


def _choose_captum(
    case: Case, work: Work, pixel_values: torch.Tensor, sizes: Sequence[int]
) -> tuple[Explain, int, dict[str, float]]:
    """Captum's fastest way and its pictures in a call, and pictures per second of all that were tried."""
    if case.method != INTEGRATED_GRADIENTS:
        return work.explain_captum, *_choose_size(work.explain_captum, pixel_values, sizes)
    tried = {
        f"{size} rows": _rate(partial(work.explain_captum, rows_in_flight=size), pixel_values[:1]) for size in sizes
    }
    fastest = max(sizes, key=lambda size: tried[f"{size} rows"])
    return partial(work.explain_captum, rows_in_flight=fastest), 1, tried


def _choose_size(explain: Explain, pixel_values: torch.Tensor, sizes: Sequence[int]) -> tuple[int, dict[str, float]]:
    tried = {f"{size} pictures": _rate(explain, pixel_values[:size]) for size in sizes}
    return max(sizes, key=lambda size: tried[f"{size} pictures"]), tried


def _rate(explain: Explain, pixel_values: torch.Tensor) -> float:
    started = time.perf_counter()
    explain(pixel_values)
    return round(len(pixel_values) / (time.perf_counter() - started), 2)


def _list_ways(
    case: Case, work: Work, pixel_values: torch.Tensor, caller: Caller, files: Sequence[bytes], counts: Counts
) -> dict[str, Callable[[], Load]]:
    server = ThreadPoolExecutor(1)

    def queue(number: int) -> None:
        server.submit(work.explain_ours, pixel_values[number % len(files), None]).result()

    def ask(number: int, without_segments: bool = True) -> None:
        caller.explain(case.net, case.method, [files[number % len(files)]], without_segments)

    def ask_together(number: int) -> None:
        caller.explain(case.net, case.method, files[:TOGETHER_COUNT])

    ways = {
        QUEUE.format(1): partial(drive, queue, 1, counts.few),
        STACK.format(1): partial(drive, ask, 1, counts.few),
    }
    if counts.many:
        ways |= {
            QUEUE.format(MANY): partial(drive, queue, MANY, counts.many),
            STACK.format(MANY): partial(drive, ask, MANY, counts.many),
            SEGMENTED: partial(drive, partial(ask, without_segments=False), MANY, counts.many),
            TOGETHER: partial(drive, ask_together, 2, counts.many // TOGETHER_COUNT, TOGETHER_COUNT),
        }
    return ways


def _explain_in_calls(explain: Explain, pixel_values: torch.Tensor, count: int, size: int) -> Load:
    """At least `count` pictures, `size` in a call."""
    calls = -(-count // size)
    rows = torch.arange(size)
    return drive(
        lambda number: explain(pixel_values[(rows + number * size) % len(pixel_values)]), 1, calls, pictures=size
    )


def _over(loads: dict[str, list[Load]], way: str) -> dict[str, dict[str, float]]:
    return {other: summarise_ratios(taken, loads[way]) for other, taken in loads.items() if other != way}


def _added(loads: Sequence[Load], queue: Sequence[Load]) -> dict[str, float]:
    stack, plain = summarise_latencies(loads), summarise_latencies(queue)
    return {name: round(stack[name] - plain[name], 2) for name in ("p50", "p99")}


if __name__ == "__main__":
    main()

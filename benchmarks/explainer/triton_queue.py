"""What Triton's own priorities, bounds and times for waiting requests cost: one model behind queues of each kind, callers of equal right.

Run: python -m benchmarks.explainer.triton_queue --out FILE [--repeats R] [--count N] [--seed S]

A real Triton without the explainer before it. The small CNN is loaded once for each kind of queue, and asked for maps by DeepLIFT SHAP, one picture in a request, by callers who ask anew
when they were answered. A repeat takes every kind and number of callers, in changing order; ratios are taken within a repeat. Nothing that the queues add is used: all requests have one
priority, none is refused, and all have time enough.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
import tritonclient.grpc as triton

from benchmarks.explainer.cases import DEEP_LIFT_SHAP, SMALL_CNN, Work, draw_pictures, write_net
from benchmarks.explainer.load import Load, drive, summarise_latencies, summarise_rates, summarise_ratios
from benchmarks.explainer.served import wait_live
from benchmarks.provenance import where, write_report
from plumbline.stack.processes import free_port, start, stop
from plumbline.stack.triton import triton_command
from services.common.vision.model_bundle import load_bundle
from services.explainer.adapters.triton_classifier import list_tensors
from services.explainer.ports import Question
from services.explainer.triton import tensors
from services.explainer.triton.definition import FILES, model_config, model_name

PLAIN = "plain"
QUEUES: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "two priorities": {"priority_levels": 2, "default_priority_level": 1},
    "a bound": {"default_queue_policy": {"max_queue_size": 512}},
    "times": {"default_queue_policy": {"timeout_action": "REJECT", "allow_timeout_override": True}},
}
"""Triton's `dynamic_batching`, by what it adds."""
CALLERS = (1, 2, 4, 8, 32)
PICTURES = 32
_START_S, _CALL_S = 60.0, 60.0


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--count", type=int, default=192, help="requests of a measurement")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        write_net(bundle, SMALL_CNN, arguments.seed)
        pixel_values = Work(bundle, DEEP_LIFT_SHAP).read(draw_pictures(SMALL_CNN, arguments.seed, PICTURES)).numpy()
        with running_triton(Path(folder)) as client:
            for number, queue in enumerate(QUEUES.values(), start=1):
                load(client, bundle, number, queue)
            loads = measure(client, pixel_values, arguments.repeats, arguments.count)
    report = {
        "about": where() | {"seed": arguments.seed, "repeats": arguments.repeats, "count": arguments.count},
        "callers": {
            str(callers): {
                queue: {
                    "answers_per_s": summarise_rates(loads[queue, callers]),
                    "over_plain": summarise_ratios(loads[queue, callers], loads[PLAIN, callers]),
                    "latency_ms": summarise_latencies(loads[queue, callers]),
                }
                for queue in QUEUES
            }
            for callers in CALLERS
        },
    }
    write_report(arguments.out, report)


@contextmanager
def running_triton(folder: Path) -> Iterator[triton.InferenceServerClient]:
    """A client of a Triton that has loaded nothing."""
    port = free_port()
    child = start(triton_command(folder / "models", folder, port, free_port()), folder)
    address = f"127.0.0.1:{port}"
    try:
        wait_live(address)
        with triton.InferenceServerClient(address) as client:
            yield client
    finally:
        stop([child])


def load(client: triton.InferenceServerClient, bundle: Path, number: int, queue: dict[str, Any]) -> None:
    """Load the bundle as version `number`, as the explainer does but for its queue."""
    read = load_bundle(bundle)
    images = read.preprocessor
    shape = (images.channels, images.height_px, images.width_px)
    config = json.loads(model_config(SMALL_CNN, number, shape, len(read.labels), bundle, is_gpu=False))
    config["dynamic_batching"] = queue
    client.load_model(config["name"], config=json.dumps(config), files=FILES, client_timeout=_START_S)


def measure(
    client: triton.InferenceServerClient, pixel_values: np.ndarray, repeats: int, count: int
) -> dict[tuple[str, int], list[Load]]:
    """Loads by queue and number of callers."""
    ways = [(queue, number, callers) for callers in CALLERS for number, queue in enumerate(QUEUES, start=1)]
    loads: dict[tuple[str, int], list[Load]] = {(queue, callers): [] for queue, _, callers in ways}
    for repeat in range(repeats):
        for queue, number, callers in ways if repeat % 2 == 0 else reversed(ways):
            name = model_name(SMALL_CNN, number)
            taken = drive(
                lambda index, name=name: explain(client, name, pixel_values[index % PICTURES]), callers, count
            )
            loads[queue, callers].append(taken)
            sys.stdout.write(
                f"{queue}, {callers} callers: {taken.pictures_per_s:.0f}/s, longest {max(taken.latencies_s):.3f} s\n"
            )
            sys.stdout.flush()
    return loads


def explain(client: triton.InferenceServerClient, name: str, picture: np.ndarray) -> np.ndarray:
    """The map of one picture (channels, height, width)."""
    inputs, outputs = list_tensors(picture[None], Question(DEEP_LIFT_SHAP))
    return client.infer(name, inputs, outputs=outputs, client_timeout=_CALL_S).as_numpy(tensors.ATTRIBUTION)


if __name__ == "__main__":
    main()

"""Measure a `nano` folder end to end through its real prompts: critic, then judge.

Run: python -m services.lvlm.nano.evaluate --model DIR --out FILE [--count N] [--data DIR] [--seed S]

Held-out drawn scenes; real digits of scikit-learn with decoys, under drawn evidence and under the maps of a network
that learned the decoy; the same on MNIST when `--data` names a folder with mnist.npz. Sentences come from the
held-out part of the grammar or from a file written by hand.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import yaml
from threadpoolctl import threadpool_limits

from services.lvlm.nano import real_digits, things
from services.lvlm.nano.answering import Nano
from services.lvlm.nano.scenes import draw_scene
from services.lvlm.nano.scoring import Case, score
from services.lvlm.nano.segments import Segments, draw_segments, name_segments, segment_evidence
from services.lvlm.nano.sentences import Field, Specification, draw_specification

ROOT = Path(__file__).resolve().parents[3]
HAND_WRITTEN = ROOT / "benchmarks" / "nano" / "hand_written.yaml"
NETWORK_SEGMENT_COUNTS = (3, 4, 5, 6)
CODES = {name.split()[-1]: code for code, name in things.WITH_ARTICLE.items()}


def main() -> None:
    """Run all measurements and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    nano = Nano(arguments.model)
    report = {"about": _about(arguments), "sets": {}}
    with threadpool_limits(2):
        for name, draw in _list_sets(arguments.data, arguments.seed).items():
            cases = draw(np.random.default_rng(arguments.seed), arguments.count)
            report["sets"][name] = score(nano, cases)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


Draw = Callable[[np.random.Generator, int], list[Case]]


def _list_sets(data: Path | None, seed: int) -> dict[str, Draw]:
    sets: dict[str, Draw] = {"drawn_train_like": _draw_train_like, "drawn_held_out": _draw_held_out}
    sources = {"digits": real_digits.load_small_digits}
    if data is not None:
        sources["mnist"] = lambda: real_digits.load_mnist(data)
    for name, load in sources.items():
        sets[f"{name}_drawn_evidence"] = _with_real(load, seed, is_network=False, is_by_hand=False)
        sets[f"{name}_network_evidence"] = _with_real(load, seed, is_network=True, is_by_hand=False)
        sets[f"{name}_network_evidence_hand_written"] = _with_real(load, seed, is_network=True, is_by_hand=True)
    return sets


def _draw_train_like(rng: np.random.Generator, count: int) -> list[Case]:
    return list(_draw_scenes(rng, count, "train"))


def _draw_held_out(rng: np.random.Generator, count: int) -> list[Case]:
    return list(_draw_scenes(rng, count, "held_out"))


def _draw_scenes(rng: np.random.Generator, count: int, split: str) -> Iterator[Case]:
    for _ in range(count):
        scene = draw_scene(rng, split)
        segments = draw_segments(rng, scene.cover)
        yield Case(scene.picture, segments, scene.seen, draw_specification(rng, split, scene.seen))


def _with_real(
    load: Callable[[], tuple[np.ndarray, np.ndarray]], seed: int, is_network: bool, is_by_hand: bool
) -> Draw:
    def draw(rng: np.random.Generator, count: int) -> list[Case]:
        digits = real_digits.add_decoys(rng, *load())
        chosen = rng.choice(len(digits.labels), count, replace=False)
        network = real_digits.train_shortcut_network(digits, seed) if is_network else None
        maps = real_digits.attribute(network, digits, chosen, seed) if network else [None] * count
        by_hand = load_hand_written() if is_by_hand else []
        cases = []
        for index, evidence in zip(chosen, maps, strict=True):
            cover = digits.covers[index]
            segments = draw_segments(rng, cover) if evidence is None else _cut(rng, evidence, cover)
            seen = [things.DIGIT, things.SQUARE]
            written = by_hand[rng.integers(len(by_hand))] if by_hand else draw_specification(rng, "held_out", seen)
            cases.append(Case(digits.pictures[index], segments, seen, written))
        return cases

    return draw


def _cut(rng: np.random.Generator, evidence: np.ndarray, cover: np.ndarray) -> Segments:
    numbers = segment_evidence(rng, evidence, int(rng.choice(NETWORK_SEGMENT_COUNTS)))
    return Segments(numbers, name_segments(numbers, evidence, cover))


def load_hand_written() -> list[Specification]:
    """Read the specifications written by hand."""
    return [
        Specification(
            "-",
            Field(entry["should_matter"], frozenset(CODES[name] for name in entry["matters"]), frozenset()),
            Field(entry["should_not_matter"], frozenset(CODES[name] for name in entry["must_not_matter"]), frozenset()),
        )
        for entry in yaml.safe_load(HAND_WRITTEN.read_text(encoding="utf-8"))
    ]


def _about(arguments: argparse.Namespace) -> dict[str, object]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() or None,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seed": arguments.seed,
        "cases_per_set": arguments.count,
    }


if __name__ == "__main__":
    main()

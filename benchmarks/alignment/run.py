"""One problem, all arms, seed by seed: a table with intervals and paired tests.

Run: python -m benchmarks.alignment.run --problem ross [--seeds 0 1 2] [--arms plain nano] [--out FILE]

Resumable: the plain model, the LVLM's verdicts and every arm's result are kept in a cache folder, by a digest of what they were made from;
an arm's is over the plain model, the effort, and the code of trainer and explainer without its comments. The result file is written anew after each arm.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.alignment.arms import ARMS
from benchmarks.alignment.digits import load_digits
from benchmarks.alignment.films import load_films
from benchmarks.alignment.problem import Problem
from benchmarks.alignment.stage import Effort, Stage, digest_of
from benchmarks.alignment.stickers import load_stickers
from benchmarks.alignment.summary import summarise
from benchmarks.provenance import ROOT, where, write_report

PROBLEMS: dict[str, tuple[Callable[[int], Problem], Effort]] = {
    "ross": (partial(load_digits, "ross"), Effort(100, 6000)),
    "r4": (partial(load_digits, "r4"), Effort(100, 2000)),
    "cnn": (partial(load_digits, "cnn"), Effort(100, 1000)),
    "films": (load_films, Effort(100, 600, 0.25)),
    "stickers": (load_stickers, Effort(100, 600, 0.25)),
}
CACHE = ROOT / ".plumbline" / "alignment"
RESULTS = Path(__file__).parent / "results"
CODE = ("services/trainer/domain", "services/explainer/domain")


def main() -> None:
    """Run what is missing and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problem", choices=tuple(PROBLEMS), required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(7)))
    parser.add_argument("--arms", nargs="*", choices=tuple(ARMS), default=list(ARMS), metavar="ARM")
    parser.add_argument("--out", type=Path, help="default: the problem's file in benchmarks/alignment/results")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.utils.logging.disable_progress_bar()
    out = arguments.out or RESULTS / f"{arguments.problem}.json"
    runs: dict[str, dict[str, Any]] = json.loads(out.read_text())["runs"] if out.exists() else {}
    load, effort = PROBLEMS[arguments.problem]
    for seed in arguments.seeds:
        cache = CACHE / arguments.problem / str(seed)
        cache.mkdir(parents=True, exist_ok=True)
        stage = Stage(load(seed), effort, seed, cache, arguments.threads)
        digest = digest_of(stage.plain_digest, effort, _read_code())
        for name in arguments.arms:
            kept = cache / f"{name.replace(' ', '-')}-{digest}.json"
            if not kept.exists():
                write_report(kept, _run(stage, name))
            runs.setdefault(str(seed), {})[name] = json.loads(kept.read_text())
            report = {"about": where() | {"problem": arguments.problem, "effort": vars(effort)}}
            write_report(out, report | {"summary": summarise(runs), "runs": runs})


def _run(stage: Stage, name: str) -> dict[str, Any]:
    started = time.monotonic()
    model, told = ARMS[name](stage)
    seconds = round(time.monotonic() - started, 1)
    result = {"test": stage.score(model), **told, "duration_s": seconds, "commit": where()["commit"]}
    sys.stdout.write(
        f"seed {stage.seed}, {name}: {result['test']['overall']:.4f} {result['test']['worst_group']:.4f}\n"
    )
    sys.stdout.flush()
    return result


def _read_code() -> list[str]:
    """The modules as syntax trees, without what does not run: comments, layout, docstrings."""
    modules = [ast.parse(path.read_text()) for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    for node in (node for module in modules for node in ast.walk(module)):
        if isinstance(getattr(node, "body", None), list):
            node.body = [part for part in node.body if not _is_text(part)]
    return [ast.dump(module) for module in modules]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


if __name__ == "__main__":
    main()

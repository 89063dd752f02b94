"""The main job, end to end, on real handwritten digits with decoy squares.

Run: python -m benchmarks.decoy.demo [--data digits|mnist] [--quick]

Trains a shortcut model, starts Redis, Triton, the three services and a worker as processes, submits a job whose only supervision is
`specification.yaml`, watches it, and writes a report and a result file. The truth about the squares is read here alone, for reporting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.decoy import controls
from benchmarks.decoy.data import MNIST, DecoyDigits, DecoySplits, load_splits, write_imagefolder
from benchmarks.decoy.shortcut_model import EPOCHS, train_shortcut_model, write_bundle
from benchmarks.provenance import ROOT, where, write_report
from plumbline.cli.watching import follow, state_name
from plumbline.client import Client
from plumbline.report import Truth, collect, render
from plumbline.specification import load_specification
from plumbline.stack.bundles import store_bundle
from plumbline.stack.control import find_supervisor, tied_stack
from plumbline.stack.layout import StackLayout
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.trainer.domain.fine_tuning import PAPER_RECIPE
from services.trainer.domain.selection import split_rows

SPECIFICATION = Path(__file__).parent / "specification.yaml"
NAME = "digits"
BUNDLE = "shortcut-model"
JOB_TIMEOUT_S = 1800
GROUPS = ("all", "square tells the truth", "square lies", "square lies, worst class")

console = Console()


@dataclass(frozen=True)
class Plan:
    """How much is done: `epochs` of the shortcut model, passes of fine-tuning, pictures critiqued per class."""

    epochs: int
    passes: int
    images_per_class: int


PLANS = {"digits": Plan(EPOCHS["digits"], 2, 40), "mnist": Plan(EPOCHS["mnist"], 16, 100)}
QUICK = Plan(150, 1, 12)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", choices=tuple(PLANS), default="digits")
    parser.add_argument("--state", type=Path, default=ROOT / ".plumbline" / "demo")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="fewer pictures: for tests of the way, not of the numbers")
    parser.add_argument("--result", type=Path, help="where to keep the numbers as JSON; default: in the state folder")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    transformers.utils.logging.disable_progress_bar()
    started = time.monotonic()
    state = arguments.state.resolve()
    _clear(state)
    plan = QUICK if arguments.quick else PLANS[arguments.data]
    splits = load_splits(arguments.data, MNIST, arguments.seed)
    bundle = state / BUNDLE
    model = _train(splits, plan, arguments.seed, bundle)
    console.print("starting Redis, Triton, explainer, LVLM service, trainer and worker")
    with tied_stack(state) as layout:
        numbers = _run(layout, splits, plan, arguments.seed, bundle, model)
    numbers |= {
        "data": arguments.data,
        "seed": arguments.seed,
        "duration_s": round(time.monotonic() - started, 1),
        **where(),
    }
    result = arguments.result or state / "result.json"
    write_report(result, numbers)
    _print_table(numbers)
    console.print(f"report: {state / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(
        f"to go on with what it left: plumbline --state {arguments.state} up", highlight=False, soft_wrap=True
    )


def _clear(state: Path) -> None:
    """Make room for a run: what an earlier demo left goes, anything else is let be."""
    end = time.monotonic() + 30
    while find_supervisor(state):  # of a demo that was killed a moment ago
        if time.monotonic() > end:
            raise SystemExit(f"a stack runs in {state}; end it first: plumbline --state {state} down")
        time.sleep(0.2)
    if state.exists() and any(state.iterdir()) and not (state / BUNDLE).exists():
        raise SystemExit(f"--state {state}: holds something else than a demo; name an empty or new folder")
    shutil.rmtree(state, ignore_errors=True)
    (state / BUNDLE).mkdir(parents=True)


def _run(
    layout: StackLayout, splits: DecoySplits, plan: Plan, seed: int, bundle: Path, model: torch.nn.Module
) -> dict[str, Any]:
    """Everything between the stack's start and its end; returns the numbers."""
    known = _join(splits.train, splits.validation)
    write_imagefolder(layout.data / "decoy", known, with_truth=False)
    write_imagefolder(layout.state / "test", splits.test, with_truth=True)
    with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
        path, digest = store_bundle(layout.store_root, NAME, bundle)
        client.publish(NAME, path, 0, f"demo-{digest}")
        alignment = client.submit(
            trainer_pb.SubmitAlignmentRequest(
                idempotency_key="demo",
                model={"name": NAME},
                dataset_path="decoy",
                specification=load_specification(SPECIFICATION).specification,
                options={"images_per_class": plan.images_per_class, "epochs": plan.passes, "seed": seed},
            )
        )
        alignment = follow(console, client.watch(alignment.job_id, JOB_TIMEOUT_S))
        console.print(f"{state_name(alignment)}: {alignment.reason}", markup=False, highlight=False, soft_wrap=True)
        if state_name(alignment) not in ("PUBLISHED", "REJECTED"):
            raise SystemExit(f"the job did not come to a decision; logs are in {layout.logs}")
        truth = _measure(client, layout, splits, known, plan, seed, alignment, model)
        with console.status("writing the report"):
            page = render(collect(client, alignment.job_id), _tell(truth))
        (layout.state / "report.html").write_text(page, encoding="utf-8")
        truth["versions"] = [entry.model.version for entry in client.models(NAME) if entry.is_ready]
    return truth | {"state": state_name(alignment), "reason": alignment.reason}


def _measure(
    client: Client,
    layout: StackLayout,
    splits: DecoySplits,
    known: DecoyDigits,
    plan: Plan,
    seed: int,
    alignment: trainer_pb.Alignment,
    model: torch.nn.Module,
) -> dict[str, Any]:
    """Accuracy per group of what is served, of the ground-truth control, and the judge's score."""
    names = [f"images/{index:05d}.png" for index in range(len(splits.test.labels))]
    images = [(name, (layout.state / "test" / name).read_bytes()) for name in names]
    groups = {}
    versions = {"plain": alignment.model.version, "aligned": alignment.published.version}
    for title, version in versions.items():
        if version:
            predicted = np.array([int(prediction.label) for prediction in client.predict(NAME, images, version)])
            groups[title] = controls.GroupAccuracy.of(predicted, splits.test).as_dict()
    critiqued = list(client.critiques(alignment.job_id))
    rows = {f"images/{index:05d}.png": index for index in range(len(known.labels))}
    job_split = split_rows([str(label) for label in known.labels], seed)
    chosen = np.array([rows[picture.image.id] for picture in critiqued])
    is_held_out = np.isin(chosen, job_split.validation)
    job_set = controls.JobSet(known, job_split, chosen[~is_held_out], chosen[is_held_out])
    judged = controls.judged_masks(critiqued, rows, known.squares)
    ways = {"regions not moved": (judged, PAPER_RECIPE), "ground-truth masks": (known.squares, None)}
    for title, (masks, recipe) in ways.items():
        with _bar(f"control: {title}") as on_step:
            control = job_set.align(model, masks, plan.passes, seed, on_step, recipe)
        predicted = controls.predict_test(control, splits.test)
        groups[title] = controls.GroupAccuracy.of(predicted, splits.test).as_dict()
    squares = {name: known.squares[row] for name, row in rows.items()}
    return {
        "groups": groups,
        "gap_closed": {key: _gap_closed(groups, key) for key in ("conflicting", "worst_class")},
        "judge": controls.score_judge(critiqued, squares).as_dict(),
        "metrics": json.loads(alignment.metrics_json) if alignment.metrics_json else {},
        "verdict_counts": dict(alignment.verdict_counts),
    }


def _gap_closed(groups: dict[str, dict[str, float]], key: str) -> float | None:
    """Share of the way from plain to ground-truth masks that the aligned model went."""
    if "aligned" not in groups:
        return None
    plain, aligned, best = (groups[title][key] for title in ("plain", "aligned", "ground-truth masks"))
    return (aligned - plain) / (best - plain) if best > plain else None


def _tell(numbers: dict[str, Any]) -> Truth:
    judge, closed = numbers["judge"], numbers["gap_closed"]
    show = {
        "verdict accuracy, where the judge decided": judge["verdict_accuracy"],
        "segments that the judge decided": judge["decided"],
        "truly spurious segments found": judge["spurious_recall"],
        "truly core segments not masked": judge["core_kept"],
        "overlap of masks with the square (IoU)": judge["mask_iou"],
    }
    notes = [
        "Test squares carry the grey of a random class. Controls, by the trainer's own fine-tuning on the same pictures: regions not moved, the "
        "judged masks as the paper uses them; ground-truth masks, the true squares instead of the judge's.",
    ]
    if closed["conflicting"] is not None:
        notes.append(
            f"Share of the gap between plain and ground-truth masks that was closed: {closed['conflicting']:.0%} where squares lie."
        )
    return Truth(
        columns=GROUPS,
        rows=[(title, tuple(values.values())) for title, values in numbers["groups"].items()],
        judge=[(name, "–" if value is None else f"{value:.3f}") for name, value in show.items()],
        notes=notes,
    )


def _print_table(numbers: dict[str, Any]) -> None:
    table = Table("test accuracy", *GROUPS)
    for title, values in numbers["groups"].items():
        table.add_row(title, *(f"{100 * value:.1f}" for value in values.values()))
    console.print(table)
    judge, closed = numbers["judge"], numbers["gap_closed"]
    accuracy = "–" if judge["verdict_accuracy"] is None else f"{judge['verdict_accuracy']:.3f}"
    console.print(f"judge's verdict accuracy {accuracy} on {judge['segment_count']} segments", highlight=False)
    if closed["conflicting"] is not None:
        console.print(f"gap to ground-truth masks closed: {closed['conflicting']:.0%}", highlight=False)
    console.print(f"Triton serves versions {numbers['versions']}; took {numbers['duration_s']:.0f} s", highlight=False)


def _train(splits: DecoySplits, plan: Plan, seed: int, folder: Path) -> torch.nn.Module:
    with _bar("training a model that takes the shortcut") as on_step:
        model = train_shortcut_model(
            splits.train, seed, plan.epochs, on_epoch=lambda epoch: on_step(epoch, plan.epochs, 0.0)
        )
    write_bundle(folder, model, splits.train, seed, plan.epochs)
    return model


def _join(*parts: DecoyDigits) -> DecoyDigits:
    return DecoyDigits(
        *(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(DecoyDigits))
    )


@contextmanager
def _bar(title: str) -> Iterator[Callable[[int, int, float], None]]:
    columns = (TextColumn("{task.description:44}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task(title, total=None)
        yield lambda done, total, loss: bars.update(bar, total=total, completed=done)


if __name__ == "__main__":
    main()

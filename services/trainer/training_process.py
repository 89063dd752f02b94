"""Training as a process of its own: from a critiqued job in the record to a challenger bundle and its numbers.

Run by the worker: python -m services.trainer.training_process --store ROOT --data DIR --job ID. Prints JSON lines: `progress` and `numbers`
for curves while it works, then `metrics`; or `error` when the input does not allow it, `unavailable` when another try may do better, `bug` with the stack on
standard error. It writes checkpoints and goes on from the job's newest; on SIGTERM it ends after its step with a checkpoint and prints `stopped`.
When its worker dies it ends so as well, for another worker will take the job. Under torch's launcher (`training_group`, or torchrun) it is one of a team.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from torch import distributed

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.code_version import code_version
from services.common.runtime.errors import AlreadyExists, ServiceError, Unavailable
from services.common.runtime.logging import set_up_logging
from services.common.runtime.open_store import open_store
from services.common.runtime.parent import when_parent_ends
from services.common.vision.critique import Critique, Verdict
from services.common.vision.masks import decode_mask
from services.common.vision.model_bundle import BASELINES, PREPROCESSING, ModelBundle, load_bundle, save_bundle
from services.common.vision.preprocessing import ImageLimits, decode_image
from services.trainer.adapters.checkpoints import Checkpoints, digest_inputs
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.job_record import JobRecord, bundle_path
from services.trainer.adapters.process_group import join_group
from services.trainer.domain.alignment import Alignment, Checkpoint, NothingToSwap, align, steps_for
from services.trainer.domain.evidence import compare_reliance
from services.trainer.domain.fine_tuning import Recipe
from services.trainer.domain.gate import Decision, decide
from services.trainer.domain.job import AlignmentRequest, Job
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.selection import digest_data, split_rows
from services.trainer.domain.team import ALONE, Team, TeamLost
from services.trainer.handlers.completing import EXPECTED
from services.trainer.handlers.critiquing import HELD_OUT_PART, TRAIN_PART, find_chosen
from services.trainer.handlers.training import METRICS
from services.trainer.ports import Sample

log = logging.getLogger(__name__)

_LINEAGE = ("specification_digest", "critiques_digest", "data_digest", "code_version", "metrics_path")

CHECKPOINT_INTERVAL_S = 60.0
_PR_SET_PDEATHSIG = 1


class ToldToStop(Exception):
    """The process was told to go, and a checkpoint is written."""


def main() -> None:
    """Train one job and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--job", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--checkpoint-interval-s", type=float, default=CHECKPOINT_INTERVAL_S)
    # The worker gives it, for one that dies while this process starts would not be noticed from here.
    parser.add_argument("--parent", type=int, default=os.getppid())
    arguments = parser.parse_args()
    set_up_logging()
    stopping = threading.Event()
    when_parent_ends(arguments.parent, stopping.set)
    torch.set_num_threads(arguments.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    transformers.utils.logging.disable_progress_bar()
    try:
        _set_up_gpu(arguments.device)
        with _join_team(arguments.parent, arguments.device) as team:
            # Not before: whoever waits for a team that does not come has nothing to keep.
            signal.signal(signal.SIGTERM, lambda *_: stopping.set())
            _train_and_tell(arguments, stopping, team)
    except Unavailable as error:
        _print({"unavailable": error.message})
    except TeamLost as error:
        # Whose fault it was is not known here: the launcher sees who died, and starts all anew.
        log.warning("team lost", extra={"job_id": arguments.job, "cause": str(error)})
        sys.exit(1)


def _set_up_gpu(device: str) -> None:
    """Let a GPU compute as the CPU does, and the same for the same inputs, as far as it can. Raises: Unavailable without one for this process."""
    if device == "cuda":
        found, number = torch.cuda.device_count(), distributed.get_node_local_rank(fallback_rank=0)
        if number >= found:
            raise Unavailable(f"TRAINER_TRAINING_DEVICE: expected a GPU for each training process, found {found}")
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.backends.cudnn.allow_tf32 = False


@contextlib.contextmanager
def _join_team(launcher: int, device: str) -> Iterator[Team]:
    """The team that the process `launcher` has started this one for, or a team of one. Raises: TeamLost."""
    if not distributed.is_torchelastic_launched():
        yield ALONE
        return
    # The launcher gives each process a session of its own, so what ends the launcher's does not reach it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        raise TeamLost("the launcher died while this process started")
    with join_group(device) as team:
        yield team


def _train_and_tell(arguments: argparse.Namespace, stopping: threading.Event, team: Team) -> None:
    """Train, and print how it ended: the leading process what all come to, every process what it falls over. Raises: TeamLost."""
    try:
        store, datasets = open_store(arguments.store), DatasetFolder(arguments.data)
        metrics = train_job(
            store, datasets, arguments.job, arguments.checkpoint_interval_s, stopping, team, arguments.device
        )
        if team.leads:
            _print({"metrics": metrics})
    except ToldToStop:
        if team.leads:
            _print({"stopped": "training goes on from its checkpoint"})
    except TeamLost:
        raise
    except Unavailable as error:
        _print({"unavailable": error.message})
    except ServiceError as error:
        _print({"error": error.message})
    except OSError as error:
        _print({"unavailable": f"training can't read or write a file: {error.strerror}"})
    except Exception as error:  # a bug: the worker ends the job, and the stack goes to its log
        traceback.print_exc()
        _print({"bug": type(error).__name__})


def train_job(
    store: ArtifactStore,
    datasets: DatasetFolder,
    job_id: str,
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S,
    stopping: threading.Event | None = None,
    team: Team = ALONE,
    device: str = "cpu",
) -> dict[str, Any]:
    """Align, decide, write the challenger's bundle into the store; returns all numbers.

    Goes on from the job's newest checkpoint, whatever number of processes wrote it, and writes one every `checkpoint_interval_s` seconds. Of a team the
    leading process alone writes and decides; what the others return says nothing.

    Raises: ToldToStop at the first step after `stopping` is set, when its checkpoint is written.
    """
    job = JobRecord(store).load(job_id)
    with store.fetch(bundle_path(job.request.model_name, job.request.model_digest)) as parent:
        return _train(store, datasets, job, parent, checkpoint_interval_s, stopping or threading.Event(), team, device)


def _train(
    store: ArtifactStore,
    datasets: DatasetFolder,
    job: Job,
    parent: Path,
    checkpoint_interval_s: float,
    stopping: threading.Event,
    team: Team,
    device: str,
) -> dict[str, Any]:
    """`train_job` with the bundle that the job starts from in the folder `parent`."""
    record, job_id = JobRecord(store), job.job_id
    bundle = load_bundle(parent)
    samples = datasets.read(job.request.dataset_path)
    chosen = find_chosen(record, job_id, samples)
    split = split_rows([sample.label for sample in samples], job.request.seed)
    train = _load_pictures(bundle, [samples[row] for row in split.train])
    validation = _load_pictures(bundle, [samples[row] for row in split.validation])
    critiques, expected = record.effective_critiques(job_id), record.read(job_id, EXPECTED)
    train_critiques, held_out_critiques = (
        [c for c in critiques if expected[c.image_digest]["part"] == part and not c.failure]
        for part in (TRAIN_PART, HELD_OUT_PART)
    )
    critiqued = _load_critiqued(bundle, chosen, train_critiques)
    held_out = _load_critiqued(bundle, chosen, held_out_critiques)
    masked_count = len(critiqued.rows_with_region())
    metrics: dict[str, Any] = {
        "pictures": {
            "train": len(train),
            "validation": len(validation),
            "critiqued": len(critiqued),
            "masked": masked_count,
            "held_out": len(held_out),
        },
    }
    if not masked_count:
        return metrics | _refuse("no segment was judged spurious: nothing to align")
    step_count, request = steps_for(len(train), job.request.epochs), job.request.model_dump_json()
    pictures = (train, critiqued, validation, held_out)
    inputs = digest_inputs(request, step_count, bundle.model.state_dict(), *pictures)
    checkpoints = Checkpoints(store, job_id, inputs)
    try:
        result = align(
            bundle.model.to(device),
            *pictures,
            step_count,
            job.request.seed,
            _print_progress,
            recipe=make_recipe(job.request),
            criteria=job.request.criteria,
            resume=team.agree(checkpoints.latest),
            on_checkpoint=_Keeper(checkpoints, checkpoint_interval_s, stopping, team),
            on_numbers=_print_numbers,
            team=team,
        )
    except NothingToSwap:
        # The gate would have to refuse whatever came of the training, so it was spared.
        return metrics | _refuse(
            "no held-out picture has a spurious segment that could be moved to another class: nothing to measure by"
        )
    if not team.leads:
        return metrics
    decision = decide(result.before, result.chosen.evidence, job.request.criteria)
    by_verdict = {
        verdict.value: replace(held_out, masks=stack_masks(held_out_critiques, verdict, held_out.masks.shape[1:]))
        for verdict in (Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE)
    }
    metrics |= {
        "before": result.before.as_dict(),
        "after": result.chosen.evidence.as_dict(),
        "evidence_by_verdict": compare_reliance(bundle.model, result.model, by_verdict, validation.pixels.mean(dim=0)),
        "chosen": asdict(result.chosen.setting) | {"step": result.chosen.step},
        "trials": [asdict(trial) for trial in result.trials],
        "criteria": asdict(job.request.criteria),
        "decision": decision.as_dict(),
    }
    return metrics | {
        "bundle_path": _write_bundle(
            store, job, parent, replace(result, model=result.model.cpu()), decision, critiques, samples
        )
    }


class _Keeper:
    """Writes a checkpoint when one is due, and a last one when the process, or another of its team, is told to go."""

    def __init__(self, checkpoints: Checkpoints, interval_s: float, stopping: threading.Event, team: Team) -> None:
        self._checkpoints = checkpoints
        self._interval_s = interval_s
        self._stopping = stopping
        self._team = team
        self._due_at = time.monotonic() + interval_s

    def __call__(self, save: Callable[[], Checkpoint]) -> None:
        is_last = self._team.is_any(self._stopping.is_set())
        if self._team.leads and (is_last or time.monotonic() >= self._due_at):
            self._checkpoints.write(save())
            self._due_at = time.monotonic() + self._interval_s
        if is_last:
            raise ToldToStop


def make_recipe(request: AlignmentRequest) -> Recipe:
    """The trainer's recipe with the loss that the job asks for."""
    return Recipe(loss=LOSSES[request.loss])


def _refuse(reason: str) -> dict[str, Any]:
    return {"decision": {"is_accepted": False, "reason": reason}}


def _load_pictures(bundle: ModelBundle, samples: Sequence[Sample]) -> Pictures:
    rows = [_preprocess(bundle, sample) for sample in samples]
    labels = torch.tensor([bundle.labels.index(sample.label) for sample in samples], dtype=torch.int64)
    return Pictures(torch.from_numpy(np.stack(rows)), labels)


def _load_critiqued(bundle: ModelBundle, chosen: dict[str, Sample], critiques: Sequence[Critique]) -> Pictures:
    """The critiqued pictures, with the union of their spurious segments at the model's input size."""
    size = (bundle.preprocessor.height_px, bundle.preprocessor.width_px)
    masks = stack_masks(critiques, Verdict.SPURIOUS, size)
    if not critiques:
        return Pictures(torch.zeros((0, bundle.preprocessor.channels, *size)), torch.zeros(0, dtype=torch.int64), masks)
    return replace(_load_pictures(bundle, [chosen[critique.image_digest] for critique in critiques]), masks=masks)


def stack_masks(critiques: Sequence[Critique], verdict: Verdict, size: tuple[int, int]) -> torch.Tensor:
    """Unions of the segments with that verdict, bool (critique, height, width), at `size`."""
    masks = np.zeros((len(critiques), *size), dtype=bool)
    for union, critique in zip(masks, critiques, strict=True):
        for judged in critique.verdicts:
            if judged.verdict is verdict:
                mask = decode_mask(judged.mask.counts, *judged.mask.size)
                union |= np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
    return torch.from_numpy(masks)


def _preprocess(bundle: ModelBundle, sample: Sample) -> np.ndarray:
    return bundle.preprocessor(decode_image(sample.path.read_bytes(), ImageLimits(), sample.file_name))


def _write_bundle(
    store: ArtifactStore,
    job: Job,
    parent: Path,
    result: Alignment,
    decision: Decision,
    critiques: Sequence[Critique],
    samples: Sequence[Sample],
) -> str:
    critiques_digest = hashlib.sha256("".join(critique.model_dump_json() for critique in critiques).encode())
    provenance = {
        "made_by": "plumbline.trainer",
        "job_id": job.job_id,
        "parent": {"version": job.request.model_version, "digest": job.request.model_digest},
        "specification_digest": job.request.specification_digest,
        "critiques_digest": f"sha256:{critiques_digest.hexdigest()}",
        "data_digest": digest_data((sample.label, sample.digest) for sample in samples),
        "code_version": code_version(),
        "metrics_path": f"jobs/{job.job_id}/{METRICS}",
        **asdict(result.chosen.setting),
        "step": result.chosen.step,
        "seed": job.request.seed,
        "loss": job.request.loss.value,
        "selection": job.request.selection.value,
    }
    baselines = parent / BASELINES
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        digest = save_bundle(
            Path(folder) / "bundle",
            result.model,
            json.loads((parent / PREPROCESSING).read_text()),
            load_file(baselines)["baselines"] if baselines.is_file() else None,
            provenance,
            _write_card(job, result, decision, provenance),
        )
        path = bundle_path(job.request.model_name, digest)
        with contextlib.suppress(AlreadyExists):  # the same job trained again gives the same bundle
            store.create_folder(path, Path(folder) / "bundle")
    return path


def _write_card(job: Job, result: Alignment, decision: Decision, provenance: dict[str, Any]) -> str:
    rules = "\n".join(
        f"- **{rule.class_name}**: should matter: {rule.should_matter or '–'}; must not matter: {rule.should_not_matter or '–'}"
        for rule in job.request.specification.rules
    )
    origin = "\n".join(f"- {name}: `{provenance[name]}`" for name in _LINEAGE)
    checks = "\n".join(f"| {c.criterion} | {c.before} | {c.after} | {c.is_met} |" for c in decision.checks)
    return (
        f"# {job.request.model_name}, aligned\n\nFine-tuned from version {job.request.model_version} "
        f"(`{job.request.model_digest}`) by job `{job.job_id}`, loss {job.request.loss} with λ = {result.chosen.setting.strength:g}, "
        f"{result.chosen.step} steps.\n\n## What the experts said\n\n{rules}\n\n## Gate\n\n"
        f"| criterion | before | after | met |\n|---|---|---|---|\n{checks}\n\n## What it came from\n\n{origin}\n"
    )


def _print_progress(done: int, total: int, loss: float) -> None:
    _print({"progress": {"done": done, "total": total, "unit": "batch", "loss": loss}})


def _print_numbers(step: int, numbers: Mapping[str, float]) -> None:
    _print({"numbers": {"step": step, "numbers": numbers}})


def _print(message: dict[str, Any]) -> None:
    try:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # The worker has died. `when_parent_ends` ends this process in order; until then nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()

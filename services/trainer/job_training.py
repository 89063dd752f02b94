"""From a critiqued job in the record to a challenger's bundle and the numbers that the gate decided by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from services.common.runtime.artifact_store import ArtifactStore
from services.common.vision.critique import Critique, Verdict
from services.common.vision.model_bundle import ModelBundle, load_bundle
from services.trainer.adapters.challenger_bundle import write_challenger
from services.trainer.adapters.checkpoints import Checkpoints, digest_inputs
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.job_pictures import load_critiqued, load_pictures, stack_masks
from services.trainer.adapters.job_record import JobRecord, bundle_path
from services.trainer.domain.alignment import Alignment, Checkpoint, NothingToSwap, align, steps_for
from services.trainer.domain.evidence import compare_reliance
from services.trainer.domain.fine_tuning import Recipe
from services.trainer.domain.gate import Decision, decide
from services.trainer.domain.job import AlignmentRequest, Job
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.selection import split_rows
from services.trainer.domain.team import ALONE, Team
from services.trainer.handlers.completing import EXPECTED
from services.trainer.handlers.critiquing import HELD_OUT_PART, TRAIN_PART, find_chosen
from services.trainer.ports import Sample

CHECKPOINT_INTERVAL_S = 60.0


class ToldToStop(Exception):
    """The training was told to stop, and a checkpoint is written."""


@dataclass(frozen=True)
class Conditions:
    """What a training goes on under, whatever it trains.

    `stopping` ends it after the step that it is at. A checkpoint is written every `checkpoint_interval_s` seconds, and a last one then. `on_progress` is
    told steps done, steps in all and the last loss; `on_numbers` a step and numbers of it by name.
    """

    stopping: threading.Event = field(default_factory=threading.Event)
    checkpoint_interval_s: float = CHECKPOINT_INTERVAL_S
    team: Team = ALONE
    device: str = "cpu"
    on_progress: Callable[[int, int, float], None] = lambda done, total, loss: None
    on_numbers: Callable[[int, Mapping[str, float]], None] = lambda step, numbers: None


def train_job(
    store: ArtifactStore, datasets: DatasetFolder, job_id: str, conditions: Conditions | None = None
) -> dict[str, Any]:
    """Align, decide, write the challenger's bundle into the store; returns all numbers.

    Goes on from the job's newest checkpoint, whatever number of processes wrote it. Of a team the leading process alone writes and decides; what the others
    return says nothing.

    Raises: ToldToStop at the first step after the conditions' `stopping` is set, when its checkpoint is written.
    """
    job = JobRecord(store).load(job_id)
    with store.fetch(bundle_path(job.request.model_name, job.request.model_digest)) as parent:
        return _train(store, datasets, job, parent, conditions or Conditions())


@dataclass(frozen=True)
class _Material:
    """What a job has to train with (`train`, `critiqued`) and to judge by (`validation`, `held_out`); `critiques` are all that count, failed ones too."""

    samples: Sequence[Sample]
    critiques: Sequence[Critique]
    held_out_critiques: Sequence[Critique]
    train: Pictures
    critiqued: Pictures
    validation: Pictures
    held_out: Pictures

    @property
    def masked_count(self) -> int:
        """Pictures to train with that have a region."""
        return len(self.critiqued.rows_with_region())

    def count(self) -> dict[str, int]:
        """How many pictures there are, by what they are for."""
        return {
            "train": len(self.train),
            "validation": len(self.validation),
            "critiqued": len(self.critiqued),
            "masked": self.masked_count,
            "held_out": len(self.held_out),
        }


def _train(
    store: ArtifactStore, datasets: DatasetFolder, job: Job, parent: Path, conditions: Conditions
) -> dict[str, Any]:
    """`train_job` with the bundle that the job starts from in the folder `parent`."""
    bundle = load_bundle(parent)
    material = _gather(JobRecord(store), datasets, job, bundle)
    metrics: dict[str, Any] = {"pictures": material.count()}
    if not material.masked_count:
        return metrics | _refuse("no segment was judged spurious: nothing to align")
    try:
        result = _align(store, job, bundle, material, conditions)
    except NothingToSwap:
        # The gate would have to refuse whatever came of the training, so it was spared.
        return metrics | _refuse(
            "no held-out picture has a spurious segment that could be moved to another class: nothing to measure by"
        )
    if not conditions.team.leads:
        return metrics
    decision = decide(result.before, result.chosen.evidence, job.request.criteria)
    metrics |= _tell(job, bundle, material, result, decision)
    challenger = replace(result, model=result.model.cpu())
    return metrics | {
        "bundle_path": write_challenger(store, job, parent, challenger, decision, material.critiques, material.samples)
    }


def _gather(record: JobRecord, datasets: DatasetFolder, job: Job, bundle: ModelBundle) -> _Material:
    samples = datasets.read(job.request.dataset_path)
    chosen = find_chosen(record, job.job_id, samples)
    split = split_rows([sample.label for sample in samples], job.request.seed)
    critiques, expected = record.effective_critiques(job.job_id), record.read(job.job_id, EXPECTED)
    of_train, of_held_out = (
        [c for c in critiques if expected[c.image_digest]["part"] == part and not c.failure]
        for part in (TRAIN_PART, HELD_OUT_PART)
    )
    return _Material(
        samples,
        critiques,
        of_held_out,
        train=load_pictures(bundle, [samples[row] for row in split.train]),
        critiqued=load_critiqued(bundle, chosen, of_train),
        validation=load_pictures(bundle, [samples[row] for row in split.validation]),
        held_out=load_critiqued(bundle, chosen, of_held_out),
    )


def _align(
    store: ArtifactStore, job: Job, bundle: ModelBundle, material: _Material, conditions: Conditions
) -> Alignment:
    """Raises: NothingToSwap, ToldToStop."""
    step_count = steps_for(len(material.train), job.request.epochs)
    pictures = (material.train, material.critiqued, material.validation, material.held_out)
    inputs = digest_inputs(job.request.model_dump_json(), step_count, bundle.model.state_dict(), *pictures)
    checkpoints = Checkpoints(store, job.job_id, inputs)
    return align(
        bundle.model.to(conditions.device),
        *pictures,
        step_count,
        job.request.seed,
        conditions.on_progress,
        recipe=make_recipe(job.request),
        criteria=job.request.criteria,
        resume=conditions.team.agree(checkpoints.latest),
        on_checkpoint=_Keeper(checkpoints, conditions),
        on_numbers=conditions.on_numbers,
        team=conditions.team,
    )


def _tell(job: Job, bundle: ModelBundle, material: _Material, result: Alignment, decision: Decision) -> dict[str, Any]:
    """What is kept of a training, as JSON."""
    held_out, reference = material.held_out, material.validation.pixels.mean(dim=0)
    by_verdict = {
        verdict.value: replace(
            held_out, masks=stack_masks(material.held_out_critiques, verdict, held_out.masks.shape[1:])
        )
        for verdict in (Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE)
    }
    return {
        "before": result.before.as_dict(),
        "after": result.chosen.evidence.as_dict(),
        "evidence_by_verdict": compare_reliance(bundle.model, result.model, by_verdict, reference),
        "chosen": asdict(result.chosen.setting) | {"step": result.chosen.step},
        "trials": [asdict(trial) for trial in result.trials],
        "criteria": asdict(job.request.criteria),
        "decision": decision.as_dict(),
    }


class _Keeper:
    """Writes a checkpoint when one is due, and a last one when the process, or another of its team, is told to go."""

    def __init__(self, checkpoints: Checkpoints, conditions: Conditions) -> None:
        self._checkpoints = checkpoints
        self._interval_s = conditions.checkpoint_interval_s
        self._stopping = conditions.stopping
        self._team = conditions.team
        self._due_at = time.monotonic() + self._interval_s

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

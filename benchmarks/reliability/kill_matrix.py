"""Kill every process at every state of a job: is a job lost, published twice, or stuck?

Run: python -m benchmarks.reliability.kill_matrix --out FILE [--runs 200] [--seed 0] [--state FOLDER]

Each run files a job on a real local stack, waits for a state and a random moment within it, and hits one process: SIGKILL, SIGTERM, or SIGSTOP until the
job's lease has run out and SIGCONT then. The supervisor starts again what ended, as Kubernetes would. The job must end PUBLISHED, REJECTED or FAILED with a reason,
and what the explainer serves must be what the record says. A stack holds `RUNS_PER_STACK` jobs and is made anew then, for each publication costs Triton memory.
A result file of the same seed is gone on with: each run draws from the seed and its own number alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers

from benchmarks.provenance import where, write_report
from benchmarks.reliability.stage import (
    LONGEST_S,
    PUBLISHED_AT_ANY_COST,
    insist,
    list_publications,
    make_model,
    serving,
    small_job,
)
from benchmarks.reliability.trainings import find_trainings
from plumbline.client import Client
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import Job, JobState

PICTURES_PER_CLASS, CRITIQUED_PER_CLASS = 40, 6
RUNS_PER_STACK = 10
LEASE_S, RECOVERY_INTERVAL_S, CHECKPOINT_INTERVAL_S = 3.0, 3.0, 1.0
SHORT_WAITS = {
    "TRAINER_LEASE_S": LEASE_S,
    "TRAINER_RECOVERY_INTERVAL_S": RECOVERY_INTERVAL_S,
    "TRAINER_CHECKPOINT_INTERVAL_S": CHECKPOINT_INTERVAL_S,
}
STOPPED_S = 2 * LEASE_S
"""A stopped process comes back when its lease is lost and somebody else may have the job."""
_POLL_S = 0.02


class Target(StrEnum):
    """What is hit."""

    WORKER = "trainer-worker"
    CHILD = "training child"
    API = "trainer-api"
    EXPLAINER = "explainer"
    LVLM = "lvlm"
    TRITON = "triton"
    REDIS = "redis"


SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
MOMENTS_S = {JobState.QUEUED: 0.3, JobState.CRITIQUING: 3.0, JobState.TRAINING: 8.0, JobState.EVALUATING: 1.5}
"""States to strike in, with how long each lasts about."""


@dataclass(frozen=True)
class Blow:
    """One cell of the matrix."""

    target: Target
    signal: signal.Signals
    state: JobState


@dataclass(frozen=True)
class Outcome:
    """What became of a job that was hit: `struck_in` is the state it really was in, `faults` what must not have happened, `commit` the code that ran."""

    target: str
    signal: str
    state: str
    struck_in: str
    ended: str
    reason: str
    seconds: float
    faults: tuple[str, ...]
    commit: str | None


def main() -> None:
    """Run the matrix over and over until there are enough runs; the result file is written anew after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="a new folder, where stacks with faults stay; default: temporary")
    arguments = parser.parse_args()
    if arguments.state and arguments.state.exists():
        parser.error(f"--state: expected a new folder, {arguments.state} exists")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    blows = list(itertools.islice(draw_blows(random.Random(arguments.seed)), arguments.runs))
    outcomes = read_outcomes(arguments.out, arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        state = (arguments.state or Path(folder)).resolve()
        model = make_model(state / "model", PICTURES_PER_CLASS)
        for start in range(len(outcomes), len(blows), RUNS_PER_STACK):
            with serving(state / f"stack-{start}", model, SHORT_WAITS) as layout:
                stack = Stack(layout, model / "bundle", arguments.seed)
                for blow in blows[start : start + RUNS_PER_STACK]:
                    outcomes.append(stack.strike(blow, random.Random(f"{arguments.seed} {len(outcomes)}")))
                    sys.stdout.write(f"{len(outcomes)}: {outcomes[-1]}\n")
                    sys.stdout.flush()
                    write_report(arguments.out, summarise(outcomes, arguments.seed))
            if not any(outcome.faults for outcome in outcomes[start:]):
                shutil.rmtree(state / f"stack-{start}")


def draw_blows(rng: random.Random) -> Iterator[Blow]:
    """All cells in random order, and again; the training child lives while a job trains only."""
    cells = [
        Blow(*cell)
        for cell in itertools.product(Target, SIGNALS, MOMENTS_S)
        if cell[0] is not Target.CHILD or cell[2] is JobState.TRAINING
    ]
    while True:
        yield from rng.sample(cells, len(cells))


def read_outcomes(file: Path, seed: int) -> list[Outcome]:
    """The runs of a result file; none where there is no file yet.

    Raises
    ------
    SystemExit
        When the file is of another seed.
    """
    if not file.exists():
        return []
    result = json.loads(file.read_text())
    if result["about"]["seed"] != seed:
        raise SystemExit(
            f"--out: {file} is of seed {result['about']['seed']}, expected a new file or one of seed {seed}"
        )
    return [Outcome(**{**outcome, "faults": tuple(outcome["faults"])}) for outcome in result["outcomes"]]


def summarise(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Counts, and every run."""
    faulty = [outcome for outcome in outcomes if outcome.faults]
    return {
        "about": where() | {"seed": seed, "lease_s": LEASE_S, "recovery_interval_s": RECOVERY_INTERVAL_S},
        "runs": len(outcomes),
        "faults": Counter(fault for outcome in faulty for fault in outcome.faults),
        "ended": Counter(outcome.ended for outcome in outcomes),
        "slowest_s": max(outcome.seconds for outcome in outcomes),
        "commits": Counter(outcome.commit for outcome in outcomes),
        "median_s": sorted(outcome.seconds for outcome in outcomes)[len(outcomes) // 2],
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


class Stack:
    """A local stack whose processes are hit while it works."""

    def __init__(self, layout: StackLayout, bundle: Path, seed: int) -> None:
        self._layout = layout
        self._bundle = bundle
        self._seed = seed
        self._commit = where()["commit"]
        self._record = JobRecord(FolderStore(layout.store))
        self._number = 0

    def strike(self, blow: Blow, rng: random.Random) -> Outcome:
        """File a job, hit, wait for the job's end, compare what is served with what is on record."""
        self._number += 1
        name = f"digits-{self._number}"
        started_at = time.monotonic()
        with Client(self._layout.explainer, self._layout.lvlm, self._layout.trainer) as client:
            path, digest = store_bundle(self._layout.store, name, self._bundle)
            insist(lambda: client.publish(name, path, 0, digest))
            job_id = insist(lambda: self._submit(client, name))
            struck_in = self._hit(job_id, blow, rng)
            insist(lambda: self._submit(client, name))  # as a caller would who got no answer
            job = self._wait_for_end(job_id)
            return Outcome(
                blow.target.value,
                blow.signal.name,
                blow.state.value,
                struck_in.value,
                job.state.value,
                job.events[-1].reason,
                round(time.monotonic() - started_at, 1),
                tuple(self._find_faults(client, job)),
                self._commit,
            )

    def _submit(self, client: Client, name: str) -> str:
        return client.submit(small_job(name, name, CRITIQUED_PER_CLASS, self._seed, PUBLISHED_AT_ANY_COST)).job_id

    def _hit(self, job_id: str, blow: Blow, rng: random.Random) -> JobState:
        """Strike in the wanted state, or, where the job ran through it unseen, in the next one that it is in."""
        states = list(MOMENTS_S)
        while True:
            state = self._record.load(job_id).state
            if state.is_final or states.index(state) >= states.index(blow.state):
                break
            time.sleep(_POLL_S)
        time.sleep(rng.uniform(0, MOMENTS_S[blow.state]))
        struck_in = self._record.load(job_id).state
        process = self._find(blow.target)
        if process is not None:
            process.send_signal(blow.signal)
            if blow.signal == signal.SIGSTOP:
                time.sleep(STOPPED_S)
                process.send_signal(signal.SIGCONT)
        return struck_in

    def _find(self, target: Target) -> psutil.Process | None:
        pids = self._layout.read_pids()
        if target is not Target.CHILD:
            return _process(pids[target])
        return next((training for _, training in find_trainings([pids[Target.WORKER]])), None)

    def _wait_for_end(self, job_id: str) -> Job:
        end = time.monotonic() + LONGEST_S  # ten times as long as one takes
        while True:
            job = self._record.load(job_id)
            if job.state.is_final or time.monotonic() > end:
                return job
            time.sleep(0.1)

    def _find_faults(self, client: Client, job: Job) -> Iterator[str]:
        if not job.state.is_final:
            yield f"stuck in {job.state}"
        elif not job.events[-1].reason:
            yield f"{job.state} without a reason"
        own, recorded = list_publications(client, job)
        if len(own) > 1 or len(recorded) > 1:
            yield "published twice"
        if own != recorded:
            yield f"served {own}, on record {recorded}"


def _process(pid: int) -> psutil.Process | None:
    return psutil.Process(pid) if psutil.pid_exists(pid) else None


if __name__ == "__main__":
    main()

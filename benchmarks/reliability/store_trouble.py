"""The artifact store in trouble in a job's middle: does the job go on, and what are callers told meanwhile?

Run: python -m benchmarks.reliability.store_trouble --out FILE [--runs 8] [--seed 0] [--state FOLDER]

The store is a folder on a disk that is really filled up, or a bucket whose server hangs and comes back with what it held. Each run files a job on a real local stack, waits for a state and a random
moment within it, lets the trouble last for longer than any call waits, and asks the trainer meanwhile: how the job stands, and to take another one. Afterwards both jobs must end PUBLISHED, once;
what was in the store before must be there unchanged; nothing half-written may be seen at any time; the audit log must hold.

Needs root or user namespaces for the disk, and the packages of the tests for the bucket.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.provenance import where, write_report
from benchmarks.reliability.small_disk import fill, free, run_apart, small_disk
from benchmarks.reliability.stage import (
    LONGEST_S,
    PUBLISHED_AT_ANY_COST,
    insist,
    list_publications,
    make_model,
    serving,
    small_job,
)
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import stop
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.open_store import open_store
from services.trainer.adapters.job_record import JobRecord, checkpoints_path
from services.trainer.domain.job import Job, JobState
from tests.support.s3_server import BUCKET, start_s3_server

PICTURES_PER_CLASS, CRITIQUED_PER_CLASS, CLASSES = 40, 6, (1, 3, 5, 7)
DISK_MIB = 64
TROUBLE_S = 30.0
"""Longer than a call to a bucket is tried, so that steps and callers are told."""
MOMENTS_S = {JobState.QUEUED: 0.3, JobState.CRITIQUING: 3.0, JobState.TRAINING: 6.0, JobState.EVALUATING: 0.5}
"""States to begin in, with how long each lasts about."""
SETTINGS = {"TRAINER_CHECKPOINT_INTERVAL_S": 1.0, "TRAINER_RECOVERY_INTERVAL_S": 5.0}
_ASK_S, _POLL_S = 2.0, 0.02
_WAYS = (JobState.QUEUED, JobState.CRITIQUING, JobState.TRAINING, JobState.EVALUATING, JobState.PUBLISHED)


@dataclass(frozen=True)
class Trouble:
    """How a store gets into trouble and out of it; `root` opens it."""

    name: str
    root: str
    variables: dict[str, str]
    begin: Callable[[], None]
    end: Callable[[], None]


@contextmanager
def full_disk(folder: Path) -> Iterator[Trouble]:
    """A folder on a disk without room."""
    with small_disk(folder / "disk", DISK_MIB) as disk:
        yield Trouble("full disk", str(disk / "store"), {}, lambda: fill(disk), lambda: free(disk))


@contextmanager
def hanging_bucket(folder: Path) -> Iterator[Trouble]:
    """A bucket whose server takes connections and answers nothing."""
    server = start_s3_server(folder / "log")
    try:
        yield Trouble("hanging bucket", f"s3://{BUCKET}/store", server.variables, server.freeze, server.thaw)
    finally:
        server.thaw()
        stop([server.child])


TROUBLES: tuple[Callable[[Path], AbstractContextManager[Trouble]], ...] = (full_disk, hanging_bucket)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: `told` is what callers were answered meanwhile, with how often; `faults` what must not have happened."""

    trouble: str
    state: str
    struck_in: str
    ended: str
    reason: str
    seconds: float
    told: dict[str, int]
    faults: tuple[str, ...]


def main() -> None:
    """Run all kinds of trouble in all states, over and over; the result file is written anew after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=len(TROUBLES) * len(MOMENTS_S))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="a new folder, which stays; default: temporary")
    arguments = parser.parse_args()
    run_apart("benchmarks.reliability.store_trouble", sys.argv[1:])
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    rng = random.Random(arguments.seed)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        state = (arguments.state or Path(folder)).resolve()
        model = make_model(state / "model", PICTURES_PER_CLASS, CLASSES)
        cells = itertools.cycle(itertools.product(MOMENTS_S, TROUBLES))
        for number, (moment, make_trouble) in enumerate(itertools.islice(cells, arguments.runs)):
            place = state / f"run-{number}"
            with make_trouble(place) as trouble:
                settings = SETTINGS | trouble.variables | {"PLUMBLINE_STORE": trouble.root}
                with serving(place / "stack", model, settings) as layout:
                    outcomes.append(Run(layout, trouble, arguments.seed).go(model / "bundle", moment, rng))
            if not outcomes[-1].faults:
                shutil.rmtree(place, ignore_errors=True)
            sys.stdout.write(f"{len(outcomes)}: {outcomes[-1]}\n")
            sys.stdout.flush()
            write_report(arguments.out, summarise(outcomes, arguments.seed))


def summarise(outcomes: Sequence[Outcome], seed: int) -> dict[str, Any]:
    """Counts, and every run."""
    return {
        "about": where() | {"seed": seed, "trouble_s": TROUBLE_S},
        "runs": len(outcomes),
        "faults": Counter(fault for outcome in outcomes for fault in outcome.faults),
        "ended": Counter(outcome.ended for outcome in outcomes),
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }


class Run:
    """One job on a stack whose store gets into trouble."""

    def __init__(self, layout: StackLayout, trouble: Trouble, seed: int) -> None:
        self._layout = layout
        self._trouble = trouble
        self._seed = seed
        self._store: ArtifactStore = open_store(trouble.root)
        self._record = JobRecord(self._store)

    def go(self, bundle: Path, moment: JobState, rng: random.Random) -> Outcome:
        """File a job, make trouble, ask, end the trouble, wait for the job's end, look at all that is there."""
        started_at = time.monotonic()
        with Client(self._layout.explainer, self._layout.lvlm, self._layout.trainer) as client:
            for name in ("first", "second"):
                path, digest = store_bundle(self._trouble.root, name, bundle)
                client.publish(name, path, 0, digest)
            job_id = self._submit(client, "first")
            struck_in = self._wait_for(job_id, moment, rng)
            before = dict(self._objects())
            self._trouble.begin()
            try:
                told = self._ask(client, job_id)
            finally:
                self._trouble.end()
            other_id = insist(lambda: self._submit(client, "second"))
            jobs = [self._wait_for_end(each) for each in (job_id, other_id)]
            faults = [fault for job in jobs for fault in self._check_job(client, job)]
            faults += self._check_objects(before)
            if client.verify_audit().HasField("fault"):
                faults.append("the audit log does not hold")
            return Outcome(
                self._trouble.name,
                moment.value,
                struck_in.value,
                jobs[0].state.value,
                jobs[0].events[-1].reason,
                round(time.monotonic() - started_at, 1),
                told,
                tuple(faults),
            )

    def _submit(self, client: Client, name: str) -> str:
        return client.submit(small_job(name, name, CRITIQUED_PER_CLASS, self._seed, PUBLISHED_AT_ANY_COST)).job_id

    def _wait_for(self, job_id: str, moment: JobState, rng: random.Random) -> JobState:
        """Wait for a random moment within `moment`, or within the next state that is seen; one that trains must have a checkpoint to go on from."""
        while True:
            state = self._record.load(job_id).state
            if state.is_final or _WAYS.index(state) >= _WAYS.index(moment):
                break
            time.sleep(_POLL_S)
        while moment is JobState.TRAINING and not list(self._store.list(checkpoints_path(job_id))):
            if self._record.load(job_id).state is not JobState.TRAINING:
                break
            time.sleep(_POLL_S)
        time.sleep(rng.uniform(0, MOMENTS_S[moment]))
        return self._record.load(job_id).state

    def _ask(self, client: Client, job_id: str) -> dict[str, int]:
        """What callers are told for as long as the trouble lasts: code and words, or OK."""
        told: Counter[str] = Counter()
        calls = {"look": lambda: client.job(job_id), "submit": lambda: self._submit(client, "second")}
        end = time.monotonic() + TROUBLE_S
        while time.monotonic() < end:
            for name, call in calls.items():
                try:
                    call()
                    told[f"{name}: OK"] += 1
                except PlumblineError as error:
                    told[f"{name}: {error.code}: {_without_names(str(error))}"] += 1
            time.sleep(_ASK_S)
        return dict(told)

    def _wait_for_end(self, job_id: str) -> Job:
        end = time.monotonic() + 2 * LONGEST_S
        while True:
            job = insist(lambda: self._record.load(job_id))
            if job.state.is_final or time.monotonic() > end:
                return job
            time.sleep(0.2)

    def _check_job(self, client: Client, job: Job) -> Iterator[str]:
        states = tuple(event.state for event in job.events)
        if states != _WAYS:
            yield f"went {', '.join(states)}: {job.events[-1].reason}"
        own, recorded = list_publications(client, job)
        if own != recorded or len(own) > 1:
            yield f"served {own}, on record {recorded}"

    def _check_objects(self, before: dict[str, str]) -> Iterator[str]:
        after = dict(self._objects())
        for path, digest in before.items():
            if "/checkpoints/" not in path and after.get(path) != digest:
                yield f"{path} is gone or another one"
        for path in after:
            if path.endswith(".json") and not _is_json(self._store.read(path)):
                yield f"{path} is half-written"

    def _objects(self, folder: str = "") -> Iterator[tuple[str, str]]:
        """Path and digest of every object of jobs, models, keys and the log."""
        for name in self._store.list(folder) if folder else ("jobs", "models", "keys", "audit", "unclaimed"):
            path = f"{folder}/{name}" if folder else name
            inside = list(self._store.list(path))
            if inside:
                yield from self._objects(path)
            elif self._store.exists(path) and folder:
                yield path, hashlib.sha256(self._store.read(path)).hexdigest()


def _without_names(words: str) -> str:
    """Words of an error without the names of objects, so that equal ones count together."""
    return " ".join("…" if "/" in word and not word.startswith("s3:") else word for word in words.split())


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    main()

"""A thousand jobs at once: do all end, urgent ones first, in flat memory, and do poisoned ones hold up the others?

Run: python -m benchmarks.reliability.thousand_jobs --out FILE [--jobs 1000] [--workers 4] [--seed 0] [--state FOLDER]

Files small but whole jobs (select, explain, critique, a training process, gate) on a real local stack with so many worker processes of one thread each: two classes of ten pictures,
one pass. A fifth is urgent, a fifth batch, the rest normal, in random order. One in five has pictures with squares and is trained; the others have plain digits, of which nothing is judged
spurious, so that their process finds nothing to train: half the seconds. Of most that train the gate asks what cannot be had, and all of these end REJECTED; a few are published, each
with a model of its own. The training processes of the poisoned are killed as soon as they are seen, as where memory runs out: these must end FAILED after three.

The result file is written anew each minute.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from benchmarks.decoy.data import DecoyDigits, write_imagefolder
from benchmarks.provenance import where, write_report
from benchmarks.reliability.sampling import Sample, Sampler, summarise_samples
from benchmarks.reliability.stage import (
    DATASET,
    NEVER_PUBLISHED,
    PUBLISHED_AT_ANY_COST,
    choose_pictures,
    insist,
    make_model,
    serving,
    small_job,
)
from benchmarks.reliability.trainings import find_trainings
from plumbline.client import Client
from plumbline.stack.bundles import store_bundle
from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Child, start, stop
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import Job, JobState, Priority
from services.trainer.handlers.attempting import MAX_LOST_ATTEMPTS

PICTURES_PER_CLASS, CRITIQUED_PER_CLASS, CLASSES = 10, 1, (2, 7)
SUBMITTERS = 16
"""Callers who file at the same time."""
PRIORITIES = (Priority.URGENT, *[Priority.NORMAL] * 3, Priority.BATCH)
ONE_IN_TRAINED, ONE_IN_POISONED, ONE_IN_PUBLISHED = 5, 200, 200
PLAIN_DATASET = "plain"
MODEL = "digits"
LENIENT = PUBLISHED_AT_ANY_COST | {
    "max_flipped_loss": 1.0,
    "min_swap_accuracy_gain": 0.0,
    "max_flip_rate_rise": 1.0,
}
LONGEST_S = 12 * 3600.0
_LOOK_S, _POISON_S, _WRITE_S = 5.0, 0.2, 60.0


@dataclass(frozen=True)
class Plan:
    """A job that is to be filed."""

    key: str
    model: str
    priority: Priority
    seed: int
    is_trained: bool = False
    is_poisoned: bool = False
    is_published: bool = False

    @property
    def ends(self) -> tuple[JobState, ...]:
        """How it may end."""
        if self.is_poisoned:
            return (JobState.FAILED,)
        return (JobState.PUBLISHED,) if self.is_published else (JobState.REJECTED,)

    def as_request(self) -> trainer_pb.SubmitAlignmentRequest:
        return small_job(
            self.key,
            self.model,
            CRITIQUED_PER_CLASS,
            self.seed,
            LENIENT if self.is_published else NEVER_PUBLISHED,
            DATASET if self.is_trained else PLAIN_DATASET,
            f"PRIORITY_{self.priority}",
        )


@dataclass(frozen=True)
class Filed:
    """A job as it was filed: when the call began, and how long it took."""

    plan: Plan
    job_id: str
    submitted_at: datetime
    took_s: float


def main() -> None:
    """File all jobs, watch them to their ends, write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="a new folder, which stays; default: temporary")
    arguments = parser.parse_args()
    if arguments.state and arguments.state.exists():
        parser.error(f"--state: expected a new folder, {arguments.state} exists")
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    about = where() | {"seed": arguments.seed, "workers": arguments.workers, "submitters": SUBMITTERS}
    plans = draw_plans(arguments.jobs, random.Random(arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        state = (arguments.state or Path(folder)).resolve()
        model = make_model(state / "model", PICTURES_PER_CLASS, CLASSES)
        with serving(state / "stack", model, {"TRAINER_WORKER_THREADS": 1}) as layout, ExitStack() as ended:
            workers = start_workers(layout, arguments.workers - 1)
            ended.callback(stop, workers)
            write_imagefolder(
                layout.data / PLAIN_DATASET,
                without_squares(choose_pictures(PICTURES_PER_CLASS, CLASSES)),
                with_truth=False,
            )
            with Client(layout.explainer, layout.lvlm, layout.trainer) as client:
                for name in {plan.model for plan in plans}:
                    path, digest = store_bundle(layout.store_root, name, model / "bundle")
                    client.publish(name, path, 0, digest)
                run = Run(layout, workers, client, submit_all(client, plans))
                run.watch(lambda result: write_report(arguments.out, {"about": about} | result))
    sys.stdout.write(f"{arguments.out}\n")


def draw_plans(count: int, rng: random.Random) -> list[Plan]:
    """`count` jobs in random order; poisoned ones and those to be published are spread over the priorities."""
    poisoned_count, published_count = (max(1, count // one_in) for one_in in (ONE_IN_POISONED, ONE_IN_PUBLISHED))
    plans = []
    for number in range(count):
        priority = PRIORITIES[number % len(PRIORITIES)]
        is_poisoned, is_published = number < poisoned_count, poisoned_count <= number < poisoned_count + published_count
        # Rows of five jobs hold each priority, so every fifth row is trained.
        is_trained = is_poisoned or is_published or number // len(PRIORITIES) % ONE_IN_TRAINED == 0
        model = f"{MODEL}-{number}" if is_published else MODEL
        plans.append(Plan(f"job-{number}", model, priority, number, is_trained, is_poisoned, is_published))
    return rng.sample(plans, count)


def without_squares(digits: DecoyDigits) -> DecoyDigits:
    """The same pictures before the squares were pasted in, which hide nothing: corners are empty."""
    return replace(digits, pictures=np.where(digits.squares, 0, digits.pictures).astype(np.uint8))


def start_workers(layout: StackLayout, count: int) -> list[Child]:
    """Workers beside the stack's own, with its settings."""
    worker = next(command for command in layout.commands() if command.name == "trainer-worker")
    return [start(replace(worker, name=f"{worker.name}-{number + 2}"), layout.logs) for number in range(count)]


def submit_all(client: Client, plans: Sequence[Plan]) -> list[Filed]:
    """File all, several at a time, in the order in which the calls began."""

    def submit(plan: Plan) -> Filed:
        request, at, begun_s = plan.as_request(), datetime.now(UTC), time.perf_counter()
        job_id = insist(lambda: client.submit(request)).job_id
        return Filed(plan, job_id, at, time.perf_counter() - begun_s)

    with ThreadPoolExecutor(SUBMITTERS) as pool:
        return list(pool.map(submit, plans))


class Run:
    """Filed jobs until their ends."""

    def __init__(self, layout: StackLayout, workers: Sequence[Child], client: Client, filed: Sequence[Filed]) -> None:
        self._layout = layout
        self._client = client
        self._filed = filed
        self._record = JobRecord(FolderStore(Path(layout.store_root)))
        self._begun_at = datetime.now(UTC)
        pids = layout.read_pids()
        self._workers = {"trainer-worker": pids["trainer-worker"]}
        self._workers |= {worker.command.name: worker.process.pid for worker in workers}
        self._others = {name: pids[name] for name in ("trainer-api", "explainer", "lvlm", "redis")}
        self._kills: Counter[str] = Counter()

    def watch(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        """Until every job has ended, or time is over."""
        sampler, samples = Sampler(self._workers | self._others, self._layout.broker_url), []
        is_over = threading.Event()
        poisoner = threading.Thread(target=self._poison, args=(is_over,), daemon=True)
        poisoner.start()
        end, write_at = time.monotonic() + LONGEST_S, 0.0
        try:
            while True:
                ended = sum(self._record.brief(filed.job_id).state.is_final for filed in self._filed)
                samples.append(sampler.take(ended, self._time_list()))
                is_last = ended == len(self._filed) or time.monotonic() > end
                if is_last or time.monotonic() > write_at:
                    write(self._summarise(samples))
                    write_at = time.monotonic() + _WRITE_S
                if is_last:
                    return
                time.sleep(_LOOK_S)
        finally:
            is_over.set()
            poisoner.join()

    def _time_list(self) -> float:
        """How long the newest page of jobs takes, seconds."""
        begun_s = time.perf_counter()
        self._client.jobs()
        return time.perf_counter() - begun_s

    def _poison(self, is_over: threading.Event) -> None:
        poisoned = {filed.job_id for filed in self._filed if filed.plan.is_poisoned}
        while not is_over.wait(_POISON_S):
            for job_id, training in find_trainings(self._workers.values()):
                if job_id in poisoned:
                    training.kill()
                    self._kills[job_id] += 1

    def _summarise(self, samples: Sequence[Sample]) -> dict[str, Any]:
        jobs = {filed.job_id: self._record.load(filed.job_id) for filed in self._filed}
        logs = [(self._layout.logs / f"{name}.log").read_text() for name in self._workers]
        return summarise(self._filed, jobs, self._kills) | {
            "sent_on_again": sum(log.count("job sent on again") for log in logs),
            **summarise_samples(samples),
        }


def summarise(filed: Sequence[Filed], jobs: Mapping[str, Job], kills: Mapping[str, int]) -> dict[str, Any]:
    """What the record says of the jobs, in numbers."""
    all_filed_at = max(one.submitted_at for one in filed)
    ended = [job.events[-1].at for job in jobs.values() if job.state.is_final]
    took_s = (max(ended, default=all_filed_at) - min(one.submitted_at for one in filed)).total_seconds()
    return {
        "jobs": len(filed),
        "trained": sum(one.plan.is_trained for one in filed),
        "ended": Counter(job.state.value for job in jobs.values()),
        "faults": list_faults(filed, jobs, kills),
        "took_s": round(took_s, 1),
        "jobs_per_minute": round(60 * len(ended) / took_s, 1) if ended else 0.0,
        "submit_ms": _spread([1000 * one.took_s for one in filed]),
        "priorities": {
            priority.value: _describe(filed, jobs, all_filed_at, priority)
            for priority in (Priority.URGENT, Priority.NORMAL, Priority.BATCH)
        },
        "poisoned": [
            {"job": one.job_id, "kills": kills.get(one.job_id, 0), "ended": jobs[one.job_id].state.value}
            for one in filed
            if one.plan.is_poisoned
        ],
    }


def list_faults(filed: Sequence[Filed], jobs: Mapping[str, Job], kills: Mapping[str, int]) -> list[str]:
    """What must not have happened, of the jobs that ended."""
    faults = []
    for one in filed:
        job = jobs[one.job_id]
        if job.state.is_final and job.state not in one.plan.ends:
            faults.append(f"{one.job_id}: {job.state}: {job.events[-1].reason}")
        if job.state.is_final and one.plan.is_poisoned and kills.get(one.job_id) != MAX_LOST_ATTEMPTS:
            faults.append(f"{one.job_id}: its training was killed {kills.get(one.job_id, 0)} times")
    if len({one.job_id for one in filed}) != len(filed):
        faults.append("two keys filed one job")
    return faults


def _describe(
    filed: Sequence[Filed], jobs: Mapping[str, Job], all_filed_at: datetime, priority: Priority
) -> dict[str, Any]:
    """Of one priority, seconds since all were filed: when its jobs began and ended. `overtaken` counts those that began while one of a higher priority still waited to."""
    own = [jobs[one.job_id] for one in filed if one.plan.priority is priority]
    higher = [Priority.URGENT, Priority.NORMAL, Priority.BATCH]
    above = [jobs[one.job_id] for one in filed if one.plan.priority in higher[: higher.index(priority)]]
    waited_until = max((begun_at(job) or datetime.now(UTC) for job in above), default=None)
    begun = [at for job in own if (at := begun_at(job)) and at > all_filed_at]
    ended = [job.events[-1].at for job in own if job.state.is_final]
    return {
        "jobs": len(own),
        "begun_before_all_were_filed": sum(bool(at := begun_at(job)) and at <= all_filed_at for job in own),
        "begun_s": _spread([(at - all_filed_at).total_seconds() for at in begun]),
        "ended_s": _spread([(at - all_filed_at).total_seconds() for at in ended]),
        "begin_to_end_s": _spread(
            [(job.events[-1].at - begun_at(job)).total_seconds() for job in own if job.state.is_final]
        ),
        "overtaken": sum(waited_until is not None and at < waited_until for at in begun),
    }


def begun_at(job: Job) -> datetime | None:
    """When the job's first step began."""
    return next((event.at for event in job.events if event.state is JobState.CRITIQUING), None)


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    named = zip(("least", "p50", "p99", "most"), np.percentile(values, [0, 50, 99, 100]), strict=True)
    return {name: round(float(value), 1) for name, value in named}


if __name__ == "__main__":
    main()

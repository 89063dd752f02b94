"""The `Archive` port on the artifact store.

jobs/<id>/request.json                  what was asked for
jobs/<id>/events/000000.json …          changes of state; creating the next number is the compare-and-set
jobs/<id>/trace.json                    the trace that it was filed in, where traces are kept
jobs/<id>/expected.json                 which pictures are to be critiqued
jobs/<id>/split.json                    digest of the data set's table that they were chosen from
jobs/<id>/asked.json                    of those, the ones that have evidence to judge
jobs/<id>/rounds/0.json …               when they were all asked for, and how many critiques were there before
jobs/<id>/sent_to_training.json         the critiques are complete; who made it sent the job on
jobs/<id>/attempts/<step>-0.json …      a worker began the step; <step>-0.ended.json: it came to an end there, good or bad
jobs/<id>/pictures/<digest>             their files
jobs/<id>/critiques/<digest>.json       what was said of them
jobs/<id>/reviews/000000.json …         what a person decided of them; creating the next number is the compare-and-set
jobs/<id>/set_aside/<digest>.json       what could not be used, with the reason
jobs/<id>/checkpoints/<step>….safetensors  from where its training can go on; removed when the job leaves TRAINING
jobs/<id>/metrics.json                  what was measured, and the gate's decision
keys/<digest of idempotency key>.json   which job a key filed
unclaimed/<digest>.json                 batches that named no job, requests that were refused
models/<name>/<digest>/                 model bundles
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import threading
import uuid
from collections import Counter, OrderedDict
from datetime import UTC, datetime
from typing import Any

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Unavailable
from services.common.runtime.traces import carry_trace, name_job
from services.common.vision.critique import Critique
from services.trainer.domain.job import AlignmentRequest, Job, JobEvent, JobState, check_transition
from services.trainer.domain.review import Review, effective_critiques
from services.trainer.ports import TRACE, JobBrief

log = logging.getLogger(__name__)

_COUNTED_JOBS = 256


class JobRecord:
    """Jobs below `jobs/` of a store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._counts: OrderedDict[str, dict[str, Counter[str]]] = OrderedDict()
        self._counting = threading.Lock()
        self._filed: set[str] = set()
        self._submitters: dict[str, str] = {}
        self._ended: dict[str, JobBrief] = {}

    def find(self, idempotency_key: str, asked_digest: str) -> Job | None:
        """See the port.

        Raises
        ------
        AlreadyExists
            When the key filed a job with other content.
        """
        try:
            job_id = json.loads(self._store.read(_key_path(idempotency_key)))["job_id"]
            request = self._read_request(job_id)
            _check_same(job_id, request, idempotency_key, asked_digest)
            return self.load(job_id)
        except NotFound:
            return None  # no such key, or its job was cut off while it was filed: filing again completes it

    def file(self, request: AlignmentRequest) -> Job:
        """See the port.

        Raises
        ------
        AlreadyExists
            When the key filed a job with other content.
        """
        job_id = self._claim_key(request) if request.idempotency_key else _new_id()
        try:
            self._store.create(f"jobs/{job_id}/request.json", request.model_dump_json(indent=1).encode())
        except AlreadyExists:
            _check_same(job_id, self._read_request(job_id), request.idempotency_key, request.asked_digest)
        name_job(job_id)
        if trace := carry_trace():
            self.write_once(job_id, TRACE, trace)
        self._append(job_id, 0, JobEvent(state=JobState.QUEUED, at=datetime.now(UTC)), may_exist=True)
        return self.load(job_id)

    def load(self, job_id: str) -> Job:
        """See the port.

        Raises
        ------
        NotFound
            When there is no such job.
        """
        names = list(self._store.list(f"jobs/{_check_id(job_id)}/events"))
        if not names:
            raise NotFound(f"job_id: there is no job '{job_id}'")
        events = [JobEvent.model_validate_json(self._store.read(f"jobs/{job_id}/events/{name}")) for name in names]
        return Job(job_id, self._read_request(job_id), tuple(events))

    def brief(self, job_id: str) -> JobBrief:
        """See the port. What can't change any more is remembered: who filed a job, and how it ended.

        Raises
        ------
        NotFound
            When there is no such job.
        """
        if job_id in self._ended:
            return self._ended[job_id]
        last = max(self._store.list(f"jobs/{_check_id(job_id)}/events"), default=None)
        if last is None:
            raise NotFound(f"job_id: there is no job '{job_id}'")
        if job_id not in self._submitters:
            self._submitters[job_id] = json.loads(self._store.read(f"jobs/{job_id}/request.json")).get("submitter", "")
        state = JobState(json.loads(self._store.read(f"jobs/{job_id}/events/{last}"))["state"])
        brief = JobBrief(state, self._submitters[job_id])
        if state.is_final:
            self._ended[job_id] = brief
        return brief

    def job_ids(self) -> list[str]:
        """See the port. A job that is just being filed is not listed yet."""
        jobs = sorted(self._store.list("jobs"), reverse=True)
        return [job_id for job_id in jobs if self._is_filed(job_id)]

    def advance(self, job: Job, state: JobState, **details: Any) -> Job:
        """See the port.

        Raises
        ------
        WrongState
            When a job can't go there from where `job` is.
        Conflict
            When somebody moved it since `job` was loaded.
        """
        check_transition(job.state, state)
        event = JobEvent(state=state, at=datetime.now(UTC), **details)
        self._append(job.job_id, len(job.events), event)
        if state != JobState.TRAINING:
            self.drop_checkpoints(job.job_id)
        return Job(job.job_id, job.request, (*job.events, event))

    def has_bundle(self, name: str, digest: str) -> bool:
        """See the port."""
        return self._store.exists(bundle_path(name, digest))

    def write_once(self, job_id: str, name: str, content: Any) -> bool:
        """See the port."""
        try:
            self._store.create(f"jobs/{_check_id(job_id)}/{name}", json.dumps(content, indent=1).encode())
        except AlreadyExists:
            return False
        return True

    def read(self, job_id: str, name: str) -> Any | None:
        """See the port."""
        try:
            return json.loads(self._store.read(f"jobs/{_check_id(job_id)}/{name}"))
        except NotFound:
            return None

    def add_critique(self, job_id: str, critique: Critique) -> bool:
        """See the port."""
        name = f"critiques/{_hex(critique.image_digest)}.json"
        return self.write_once(job_id, name, critique.model_dump(mode="json"))

    def effective_critiques(self, job_id: str) -> list[Critique]:
        """See the port."""
        folder = f"jobs/{_check_id(job_id)}/critiques"
        kept = [Critique.model_validate_json(self._store.read(f"{folder}/{name}")) for name in self._store.list(folder)]
        return effective_critiques(kept, self.reviews(job_id))

    def critique(self, job_id: str, digest: str) -> Critique | None:
        """See the port."""
        content = self.read(job_id, f"critiques/{_hex(digest)}.json")
        return None if content is None else Critique.model_validate(content)

    def critiqued(self, job_id: str) -> set[str]:
        """See the port."""
        return {
            f"sha256:{name.removesuffix('.json')}" for name in self._store.list(f"jobs/{_check_id(job_id)}/critiques")
        }

    def verdict_counts(self, job_id: str) -> dict[str, int]:
        """See the port. Critiques never change, so each is read once; the last jobs looked at are remembered."""
        folder = f"jobs/{_check_id(job_id)}/critiques"
        with self._counting:
            counted = self._counts.setdefault(job_id, {})
            self._counts.move_to_end(job_id)
            while len(self._counts) > _COUNTED_JOBS:
                self._counts.popitem(last=False)
        for name in self._store.list(folder):
            if name not in counted:
                verdicts = json.loads(self._store.read(f"{folder}/{name}"))["verdicts"]
                counted[name] = Counter(verdict["verdict"] for verdict in verdicts)
        # A copy, as another thread may be counting the same job.
        return dict(sum(counted.copy().values(), Counter()))

    def add_review(self, job_id: str, number: int, review: Review) -> bool:
        """See the port."""
        return self.write_once(job_id, f"reviews/{number:06d}.json", review.model_dump(mode="json"))

    def reviews(self, job_id: str) -> list[Review]:
        """See the port."""
        folder = f"jobs/{_check_id(job_id)}/reviews"
        return [Review.model_validate_json(self._store.read(f"{folder}/{name}")) for name in self._store.list(folder)]

    def set_aside(self, job_id: str, content: Any, reason: str) -> None:
        """See the port. What names no job is kept under `unclaimed/`."""
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
        folder = f"jobs/{job_id}/set_aside" if self._is_known(job_id) else "unclaimed"
        kept = json.dumps({"reason": reason, "content": content}, indent=1, default=str)
        with contextlib.suppress(AlreadyExists):  # the same message came twice
            self._store.create(f"{folder}/{digest}.json", kept.encode())

    def drop_checkpoints(self, job_id: str) -> None:
        """See the port. What can't be removed is left behind."""
        try:
            self._store.remove(checkpoints_path(job_id))
        except Unavailable as error:
            log.warning("checkpoints not removed", extra={"job_id": job_id, "cause": error.message})

    def add_picture(self, job_id: str, digest: str, data: bytes) -> None:
        """See the port."""
        with contextlib.suppress(AlreadyExists):  # a step that is done again finds its pictures kept
            self._store.create(f"jobs/{_check_id(job_id)}/pictures/{_hex(digest)}", data)

    def picture(self, job_id: str, digest: str) -> bytes:
        """See the port."""
        return self._store.read(f"jobs/{_check_id(job_id)}/pictures/{_hex(digest)}")

    def _claim_key(self, request: AlignmentRequest) -> str:
        path = _key_path(request.idempotency_key)
        with contextlib.suppress(AlreadyExists):  # the key's job is read below, whoever filed it
            self._store.create(path, json.dumps({"job_id": _new_id()}).encode())
        return json.loads(self._store.read(path))["job_id"]

    def _read_request(self, job_id: str) -> AlignmentRequest:
        return AlignmentRequest.model_validate_json(self._store.read(f"jobs/{job_id}/request.json"))

    def _append(self, job_id: str, number: int, event: JobEvent, may_exist: bool = False) -> None:
        try:
            self._store.create(f"jobs/{job_id}/events/{_event_name(number)}", event.model_dump_json(indent=1).encode())
        except AlreadyExists as error:
            if not may_exist:
                raise Conflict(f"job {job_id} changed at the same moment; look again") from error

    def _is_filed(self, job_id: str) -> bool:
        if job_id not in self._filed and self._store.exists(f"jobs/{job_id}/events/{_event_name(0)}"):
            self._filed.add(job_id)
        return job_id in self._filed

    def _is_known(self, job_id: str) -> bool:
        try:
            return self._store.exists(f"jobs/{_check_id(job_id)}/request.json")
        except (InvalidInput, NotFound):
            return False


def bundle_path(name: str, digest: str) -> str:
    """Where a model bundle lies in the artifact store."""
    return f"models/{name}/{_hex(digest)}"


def checkpoints_path(job_id: str) -> str:
    """Where the checkpoints of a job's training lie in the artifact store."""
    return f"jobs/{_check_id(job_id)}/checkpoints"


def _check_same(job_id: str, filed: AlignmentRequest, key: str, asked_digest: str) -> None:
    if filed.asked_digest != asked_digest:
        raise AlreadyExists(f"idempotency_key: '{key}' filed job {job_id} with other content")


def _key_path(key: str) -> str:
    return f"keys/{hashlib.sha256(key.encode()).hexdigest()}.json"


def _event_name(number: int) -> str:
    return f"{number:06d}.json"


def _new_id() -> str:
    # Time first, so that names sort by age.
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:8]}"


def _check_id(job_id: str) -> str:
    if not job_id or not all(character.isalnum() or character == "-" for character in job_id) or len(job_id) > 64:
        raise NotFound(f"job_id: there is no job '{job_id[:64]}'")
    return job_id


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")

"""The `Record` port on the artifact store.

jobs/<id>/request.json                  what was asked for
jobs/<id>/events/000000.json …          changes of state; creating the next number is the compare-and-set
jobs/<id>/expected.json                 which pictures are to be critiqued
jobs/<id>/pictures/<digest>             their files
jobs/<id>/critiques/<digest>.json       what was said of them
jobs/<id>/set_aside/<digest>.json       what could not be used, with the reason
jobs/<id>/metrics.json                  what was measured, and the gate's decision
keys/<digest of idempotency key>.json   which job a key filed
unclaimed/<digest>.json                 batches that named no job
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from datetime import UTC, datetime
from typing import Any

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, Conflict, InvalidInput, NotFound
from services.common.vision.critique import Critique
from services.trainer.domain.job import AlignmentRequest, Job, JobEvent, JobState, check_transition


class JobRecord:
    """Jobs below `jobs/` of a store."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

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
            if self._read_request(job_id).asked_digest != request.asked_digest:
                raise AlreadyExists(
                    f"idempotency_key: '{request.idempotency_key}' filed job {job_id} with other content"
                ) from None
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

    def job_ids(self) -> list[str]:
        """See the port."""
        return sorted(self._store.list("jobs"), reverse=True)

    def advance(self, job_id: str, state: JobState, **details: Any) -> Job:
        """See the port.

        Raises
        ------
        WrongState
            When the job can't go there from where it is.
        Conflict
            When somebody else moved it at the same moment.
        """
        job = self.load(job_id)
        check_transition(job.state, state)
        self._append(job_id, len(job.events), JobEvent(state=state, at=datetime.now(UTC), **details))
        return self.load(job_id)

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

    def critiques(self, job_id: str) -> list[Critique]:
        """See the port."""
        folder = f"jobs/{_check_id(job_id)}/critiques"
        return [Critique.model_validate_json(self._store.read(f"{folder}/{name}")) for name in self._store.list(folder)]

    def set_aside(self, job_id: str, content: Any, reason: str) -> None:
        """See the port. What names no job is kept under `unclaimed/`."""
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
        folder = f"jobs/{job_id}/set_aside" if self._is_known(job_id) else "unclaimed"
        kept = json.dumps({"reason": reason, "content": content}, indent=1, default=str)
        with contextlib.suppress(AlreadyExists):  # the same message came twice
            self._store.create(f"{folder}/{digest}.json", kept.encode())

    def add_picture(self, job_id: str, digest: str, data: bytes) -> None:
        """See the port."""
        with contextlib.suppress(AlreadyExists):  # a step that is done again finds its pictures kept
            self._store.create(f"jobs/{_check_id(job_id)}/pictures/{_hex(digest)}", data)

    def picture(self, job_id: str, digest: str) -> bytes:
        """See the port."""
        return self._store.read(f"jobs/{_check_id(job_id)}/pictures/{_hex(digest)}")

    def _claim_key(self, request: AlignmentRequest) -> str:
        path = f"keys/{hashlib.sha256(request.idempotency_key.encode()).hexdigest()}.json"
        with contextlib.suppress(AlreadyExists):  # the key's job is read below, whoever filed it
            self._store.create(path, json.dumps({"job_id": _new_id()}).encode())
        return json.loads(self._store.read(path))["job_id"]

    def _read_request(self, job_id: str) -> AlignmentRequest:
        return AlignmentRequest.model_validate_json(self._store.read(f"jobs/{job_id}/request.json"))

    def _append(self, job_id: str, number: int, event: JobEvent, may_exist: bool = False) -> None:
        try:
            self._store.create(f"jobs/{job_id}/events/{number:06d}.json", event.model_dump_json(indent=1).encode())
        except AlreadyExists as error:
            if not may_exist:
                raise Conflict(f"job {job_id} changed at the same moment; look again") from error

    def _is_known(self, job_id: str) -> bool:
        try:
            return self._store.exists(f"jobs/{_check_id(job_id)}/request.json")
        except (InvalidInput, NotFound):
            return False


def _new_id() -> str:
    # Time first, so that names sort by age.
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{uuid.uuid4().hex[:8]}"


def _check_id(job_id: str) -> str:
    if not job_id or not all(character.isalnum() or character == "-" for character in job_id) or len(job_id) > 64:
        raise NotFound(f"job_id: there is no job '{job_id[:64]}'")
    return job_id


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")

"""Who did what, when and why: a chain of immutable events in the artifact store.

audit/00000001.json …             events; creating the next number is what puts writers in order
audit/keys/<digest of key>.json   which event said a thing, so that no thing is said twice

Each event holds the hash of the one before, so whatever is changed, taken out or moved shows. A hash is no signature: who may write
the whole store can write another chain. To see that too, keep the newest event's number and hash elsewhere and hand them to `verify`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import AlreadyExists, NotFound, Unavailable

MAX_REASON_LENGTH = 1000
MAX_NAME_LENGTH = 128
_FOLDER = "audit"
_KEYS = f"{_FOLDER}/keys"
_MAX_TRIES = 100


class AuditAction(StrEnum):
    """What was done."""

    JOB_SUBMITTED = "JOB_SUBMITTED"
    JOB_REVIEWED = "JOB_REVIEWED"
    """A person's review of its critiques was finished."""
    JOB_PUBLISHED = "JOB_PUBLISHED"
    JOB_REJECTED = "JOB_REJECTED"
    JOB_FAILED = "JOB_FAILED"
    JOB_CANCELLED = "JOB_CANCELLED"
    MODEL_PUBLISHED = "MODEL_PUBLISHED"
    MODEL_ROLLED_BACK = "MODEL_ROLLED_BACK"
    MODEL_FOUND_LIVE = "MODEL_FOUND_LIVE"
    """A champion of which no event told: it was published before there was a log, or its pointer was moved by hand."""
    PUBLICATION_UNDONE = "PUBLICATION_UNDONE"
    """The version was announced and never became the champion."""
    SHADOW_SET = "SHADOW_SET"
    """The version answers a share of the champion's requests, unseen by their callers."""
    SHADOW_ENDED = "SHADOW_ENDED"


class Lineage(BaseModel):
    """What a version or a job came from; "" where it is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_digest: str = ""
    parent_digest: str = ""
    specification_digest: str = ""
    critiques_digest: str = ""
    data_digest: str = ""
    code_version: str = ""

    @classmethod
    def of_bundle(cls, digest: str, provenance: Mapping[str, Any]) -> Lineage:
        """Of the bundle with this digest, by its `plumbline.json`, which may come from anybody: what is no short text is left out."""
        parent = provenance.get("parent")
        told = {
            "parent_digest": parent.get("digest") if isinstance(parent, Mapping) else None,
            **{
                name: provenance.get(name) for name in cls.model_fields if name not in ("model_digest", "parent_digest")
            },
        }
        return cls(model_digest=digest, **{name: short_text(value) for name, value in told.items()})


class AuditEntry(BaseModel):
    """What a writer says. Its `key` names the thing that was done: of two entries with one key the first counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1)
    action: AuditAction
    actor: str
    """The service that did it."""
    caller: str = ""
    """Who asked for it, "" where that is not known."""
    job_id: str = ""
    model_name: str = ""
    model_version: int = 0
    repeats_version: int = 0
    """The version whose weights a rolled-back one repeats."""
    reason: str = ""
    lineage: Lineage = Lineage()


class AuditEvent(AuditEntry):
    """An entry at its place in the chain."""

    number: int = Field(ge=1)
    at: datetime
    """When it was written; never before the event before it, whatever the writers' clocks say."""
    previous_hash: str
    """The hash of the event before; "" in the first one."""
    hash: str
    """SHA-256 over the canonical JSON of all the rest: "sha256:<hex>"."""


class FaultKind(StrEnum):
    """What is wrong with an event."""

    MISSING = "MISSING"
    CHANGED = "CHANGED"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    UNLINKED = "UNLINKED"
    """It does not hold the hash of the event before it."""


@dataclass(frozen=True)
class Fault:
    """The first event at fault, and why."""

    number: int
    kind: FaultKind
    description: str


@dataclass(frozen=True)
class Verification:
    """How far the chain holds: its last sound event's number and hash, and what comes after it when that is at fault."""

    number: int
    hash: str
    fault: Fault | None


class AuditLog:
    """The log in `store`. Any number of threads and processes may append; each remembers how far it knows the chain."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._head: AuditEvent | None = None
        self._known: int | None = None
        self._appending = threading.Lock()

    def append(self, entry: AuditEntry) -> AuditEvent | None:
        """Add an event; None when the entry's key has one already.

        Raises
        ------
        Unavailable
            When other writers were first a hundred times, or the newest event can't be read.
        """
        with self._appending:
            for _ in range(_MAX_TRIES):
                head = self._find_head()
                if self._is_noted(entry.key):
                    return None
                event = _follow(head, entry)
                try:
                    self._store.create(_event_path(event.number), event.model_dump_json(indent=1).encode())
                except AlreadyExists:
                    continue  # another writer took the number
                self._remember(event)
                return event
        raise Unavailable(f"audit log: other writers were first {_MAX_TRIES} times; try again")

    def is_said(self, key: str) -> bool:
        """Whether there is an event with this key."""
        with self._appending:
            self._find_head()
        return self._is_noted(key)

    def last_number(self) -> int:
        """The newest event's number; 0 when there is none. The log is listed once, and looked up from there on."""
        known, step = self._list_last() if self._known is None else self._known, 1
        while self._store.exists(_event_path(known + step)):
            known, step = known + step, step * 2
        # Now `known` is there and `known + step` is not.
        while step > 1:
            step //= 2
            if self._store.exists(_event_path(known + step)):
                known += step
        self._known = known
        return known

    def read(self, number: int) -> AuditEvent:
        """One event.

        Raises
        ------
        NotFound
            When there is none of this number.
        Unavailable
            When it can't be read; `verify` says what is wrong.
        """
        try:
            return AuditEvent.model_validate_json(self._store.read(_event_path(number)))
        except ValidationError as error:
            raise Unavailable(f"audit log: event {number} can't be read; verify the log") from error

    def verify(self, kept_number: int = 0, kept_hash: str = "") -> Verification:
        """Walk the chain to its end or to the first event at fault.

        `kept_hash` is what event `kept_number` had when somebody noted it elsewhere; 0 when nobody did.
        """
        last = max(kept_number, self._list_last())
        previous: AuditEvent | None = None
        for number in range(1, last + 1):
            event = self._check(number, previous, is_last=number == last)
            if isinstance(event, AuditEvent) and number == kept_number and event.hash != kept_hash:
                event = Fault(number, FaultKind.CHANGED, "its hash is not the one that was kept elsewhere")
            if isinstance(event, Fault):
                return _verification(previous, event)
            previous = event
        return _verification(previous, self._find_cut(last))

    def _list_last(self) -> int:
        names = (name.removesuffix(".json") for name in self._store.list(_FOLDER))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _is_noted(self, key: str) -> bool:
        return self._store.exists(_key_path(key))

    def _find_head(self) -> AuditEvent | None:
        """The newest event, its key noted. A writer that died left the newest one without at worst: nobody adds to that before."""
        number = self.last_number()
        # One that this process wrote and that is gone stays the head: its hash in the next event shows that it was there.
        if number and (self._head is None or number > self._head.number):
            self._remember(self.read(number))
        return self._head

    def _remember(self, event: AuditEvent) -> None:
        with contextlib.suppress(AlreadyExists):  # whoever wrote the event was not cut off
            content = {"number": event.number, "hash": event.hash}
            self._store.create(_key_path(event.key), json.dumps(content).encode())
        self._head, self._known = event, event.number

    def _check(self, number: int, previous: AuditEvent | None, is_last: bool) -> AuditEvent | Fault:
        try:
            content = json.loads(self._store.read(_event_path(number)))
            event = AuditEvent.model_validate(content)
        except NotFound:
            return Fault(number, FaultKind.MISSING, "there is no such event, though later ones are known")
        except ValueError:
            return Fault(number, FaultKind.CHANGED, "it can't be read as an event")
        if event.number != number:
            return Fault(number, FaultKind.OUT_OF_ORDER, f"event {event.number} lies in its place")
        if _hash(content) != event.hash:
            return Fault(number, FaultKind.CHANGED, "its content is not what its hash was made of")
        if event.previous_hash != (previous.hash if previous else ""):
            return Fault(number, FaultKind.UNLINKED, f"it was not written after event {number - 1} as that is now")
        if previous and event.at < previous.at:
            return Fault(number, FaultKind.OUT_OF_ORDER, f"it is older than event {previous.number}")
        return self._check_key(event, is_last)

    def _check_key(self, event: AuditEvent, is_last: bool) -> AuditEvent | Fault:
        try:
            noted = json.loads(self._store.read(_key_path(event.key)))
        except NotFound:
            # A writer that was cut off leaves the last event so, and the next one mends it.
            return event if is_last else Fault(event.number, FaultKind.MISSING, "its key is not noted")
        except ValueError:
            noted = None
        is_same = noted == {"number": event.number, "hash": event.hash}
        return event if is_same else Fault(event.number, FaultKind.CHANGED, "its key notes another event")

    def _find_cut(self, last: int) -> Fault | None:
        """The first event that a key knows beyond the end."""
        noted = [self._read_noted(name) for name in self._store.list(_KEYS)]
        gone = [number for number in sorted(noted) if number > last and not self._store.exists(_event_path(number))]
        return Fault(gone[0], FaultKind.MISSING, "there is no such event, though its key is noted") if gone else None

    def _read_noted(self, name: str) -> int:
        try:
            return int(json.loads(self._store.read(f"{_KEYS}/{name}"))["number"])
        except (ValueError, KeyError, TypeError):
            return 0  # no writer's; the event that it should note is told of at its own place


def short_text(value: Any) -> str:
    """`value` when it is a text that may stand in an event as a name or digest, "" otherwise."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME_LENGTH and value.isprintable() else ""


def _follow(head: AuditEvent | None, entry: AuditEntry) -> AuditEvent:
    now = datetime.now(UTC)
    content = entry.model_dump(mode="json") | {
        "reason": entry.reason[:MAX_REASON_LENGTH],
        "number": head.number + 1 if head else 1,
        "at": max(now, head.at) if head else now,
        "previous_hash": head.hash if head else "",
        "hash": "",
    }
    unsigned = AuditEvent.model_validate(content)
    return unsigned.model_copy(update={"hash": _hash(unsigned.model_dump(mode="json"))})


def _hash(content: dict[str, Any]) -> str:
    """Over what was written, not over what is read: an event holds though fields were added since."""
    rest = {name: value for name, value in content.items() if name != "hash"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


def _verification(last: AuditEvent | None, fault: Fault | None) -> Verification:
    return Verification(last.number if last else 0, last.hash if last else "", fault)


def _event_path(number: int) -> str:
    return f"{_FOLDER}/{number:08d}.json"


def _key_path(key: str) -> str:
    return f"{_KEYS}/{hashlib.sha256(key.encode()).hexdigest()}.json"

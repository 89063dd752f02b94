"""Read the audit log: its events, whether it is whole, and what was live when."""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime

from services.common.runtime.audit_log import AuditAction, AuditEvent, AuditLog, Verification
from services.common.runtime.errors import InvalidInput, NotFound, WrongState
from services.trainer.handlers.paging import check_page_size

DEFAULT_PAGE = 100
MAX_LOOKED_AT = 5000
"""Events looked at for one page: a job whose events are rare must not hold a call up."""
_MAX_TOKEN_LENGTH = 18
"""Digits: more events than there will ever be."""
_LIVE = (AuditAction.MODEL_PUBLISHED, AuditAction.MODEL_ROLLED_BACK, AuditAction.MODEL_FOUND_LIVE)


@dataclass(frozen=True)
class LiveVersion:
    """The event that made a version live, and when the next one took over."""

    event: AuditEvent
    until: datetime | None


class Auditing:
    """Reads what explainer and trainer wrote. Events of models are remembered, for they never change; `verify` reads all anew."""

    def __init__(self, audit_log: AuditLog) -> None:
        self._audit_log = audit_log
        self._publications: dict[str, list[AuditEvent]] = defaultdict(list)
        self._read_to = 0
        self._reading = threading.Lock()

    def page(self, size: int, token: str, job_id: str = "", model_name: str = "") -> tuple[list[AuditEvent], str]:
        """Events, newest first, and the next page's token, empty on the last page; only those of a job and of a model, if given.

        Raises
        ------
        InvalidInput
            At `page_size` or `page_token`.
        WrongState
            When an event is missing.
        """
        size = check_page_size(size, DEFAULT_PAGE)
        number = self._audit_log.last_number()
        if token:
            if not token.isdecimal() or len(token) > _MAX_TOKEN_LENGTH:
                raise InvalidInput("page_token", "expected `next_page_token` of the page before")
            number = min(number, int(token) - 1)
        page: list[AuditEvent] = []
        end = max(0, number - MAX_LOOKED_AT)
        while number > end and len(page) < size:
            event = self._read(number)
            if job_id in ("", event.job_id) and model_name in ("", event.model_name):
                page.append(event)
            number -= 1
        return page, str(number + 1) if number else ""

    def verify(self, kept_number: int, kept_hash: str) -> Verification:
        """How far the log is as it was written; `kept_hash` is what somebody noted elsewhere of event `kept_number`, 0 for none.

        Raises
        ------
        InvalidInput
            At `kept_number` or `kept_hash`.
        """
        if kept_number < 0:
            raise InvalidInput("kept_number", f"expected an event's number, or 0 for none; got {kept_number}")
        if bool(kept_number) != bool(kept_hash):
            raise InvalidInput("kept_hash", "expected it with kept_number, and none without")
        if kept_number > self._audit_log.last_number() + MAX_LOOKED_AT:
            raise InvalidInput("kept_number", f"the log is nowhere near event {kept_number}")
        return self._audit_log.verify(kept_number, kept_hash)

    def find_live(self, model_name: str, at: datetime | None = None) -> LiveVersion:
        """The version that was the model's champion `at` that time, which has a zone; None means now.

        Raises
        ------
        InvalidInput
            At `model_name` or `at`.
        NotFound
            When no event tells of a champion at that time.
        WrongState
            When an event is missing.
        """
        if not model_name:
            raise InvalidInput("model_name", "empty; expected the name of a model")
        if at and at > datetime.now(UTC):
            raise InvalidInput("at", f"{at.isoformat()} lies in the future")
        told = self._find_publications(model_name)
        # Announced and undone is never live: the pointer had not moved.
        undone = {event.model_version for event in told if event.action is AuditAction.PUBLICATION_UNDONE}
        live = [event for event in told if event.action in _LIVE and event.model_version not in undone]
        before = [event for event in live if at is None or event.at <= at]
        if not before:
            when = f" at {at.isoformat()}" if at else ""
            raise NotFound(f"model_name: no event tells of a live version of '{model_name}'{when}")
        after = live[len(before) :]
        return LiveVersion(before[-1], after[0].at if after else None)

    def _find_publications(self, model_name: str) -> list[AuditEvent]:
        with self._reading:
            for number in range(self._read_to + 1, self._audit_log.last_number() + 1):
                event = self._read(number)
                if event.action in (*_LIVE, AuditAction.PUBLICATION_UNDONE):
                    self._publications[event.model_name].append(event)
                self._read_to = number
            return list(self._publications.get(model_name, ()))

    def _read(self, number: int) -> AuditEvent:
        try:
            return self._audit_log.read(number)
        except NotFound as error:
            raise WrongState(f"event {number} of the audit log is missing; verify the log") from error

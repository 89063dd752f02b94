"""What the audit log is told of publications: before the champion pointer moves, and what came of it when it did not."""

from __future__ import annotations

import asyncio
import logging

from services.common.runtime.audit_log import AuditAction, AuditEntry, AuditLog, Lineage, short_text
from services.common.runtime.errors import ServiceError
from services.explainer.ports import ModelRepository, Publication, ServedVersion, ShadowPointer

log = logging.getLogger(__name__)

_ACTOR = "explainer"
_LOCK_TIMEOUT_S = 5.0  # whoever holds it longer is publishing, and the next round comes soon


class Announcing:
    """Keeps the log in step with the champion pointers. Its callers hold the model's publishing lock."""

    def __init__(self, audit_log: AuditLog, repository: ModelRepository) -> None:
        self._audit_log = audit_log
        self._repository = repository

    def announce(self, added: ServedVersion, publication: Publication) -> None:
        """Say that `added` becomes the champion.

        Raises
        ------
        Unavailable
            When the log can't be written; then the pointer must not move.
        """
        action = AuditAction.MODEL_ROLLED_BACK if publication.repeats_version else AuditAction.MODEL_PUBLISHED
        self._audit_log.append(_entry(added, action, publication.reason, publication.caller))

    def announce_shadow(
        self, name: str, subject: ServedVersion | None, pointer: ShadowPointer, version: int, caller: str
    ) -> None:
        """Say that `version` becomes the shadow after `pointer`, or with 0 that there is none any more; `subject` is the version told of.

        Raises
        ------
        Unavailable
            When the log can't be written; then the pointer must not move.
        """
        self._audit_log.append(
            AuditEntry(
                # The version too: a change that was cut off after it was told may be followed by another one in its place.
                key=f"model/{name}/shadow/{pointer.change_count}/{version}",
                action=AuditAction.SHADOW_SET if version else AuditAction.SHADOW_ENDED,
                actor=_ACTOR,
                caller=caller,
                job_id=short_text(subject.provenance.get("job_id")) if subject else "",
                model_name=name,
                model_version=version or pointer.version,
                lineage=Lineage.of_bundle(subject.digest, subject.provenance) if subject else Lineage(),
            )
        )

    def settle(self, name: str) -> None:
        """Bring the log to what the pointer says: tell of a champion that no event knows, and of announcements that came to nothing.

        Raises
        ------
        Unavailable
            When the log can't be read or written.
        """
        champion = self._repository.champion(name)
        served = self._repository.version(name, champion)
        if served and not self._audit_log.is_said(_live_key(name, champion)):
            reason = "it was the champion and no event told of it"
            self._audit_log.append(_entry(served, AuditAction.MODEL_FOUND_LIVE, reason))
        for number in range(champion + 1, self._repository.highest(name) + 1):
            if self._audit_log.is_said(_live_key(name, number)):
                self._audit_log.append(_undone(name, number, champion))


async def keep_settled(announcing: Announcing, repository: ModelRepository, interval_s: float) -> None:
    """Settle each model at the start, for the process before may have died, and whenever its champion is another one."""
    settled: dict[str, int] = {}
    while True:
        try:
            for name in repository.names():
                await _settle_moved(announcing, repository, name, settled)
        except Exception:
            # Nobody else brings the log in step, so no fault may end this loop.
            log.exception("audit log not settled")
        await asyncio.sleep(interval_s)


async def _settle_moved(
    announcing: Announcing, repository: ModelRepository, name: str, settled: dict[str, int]
) -> None:
    """Settle one model, if its champion is not the one in `settled`."""
    try:
        if settled.get(name) != repository.champion(name):
            async with repository.publishing(name, _LOCK_TIMEOUT_S):
                await asyncio.to_thread(announcing.settle, name)
                settled[name] = repository.champion(name)
    except (
        ServiceError
    ) as error:  # also where one is being published: whoever does keeps the log in step, and the next round looks again
        log.info("audit log not settled", extra={"model": name, "kind": error.kind})
    except Exception:
        # One model that can't be read must not keep the others from being told of.
        log.exception("audit log not settled", extra={"model": name})


def _entry(served: ServedVersion, action: AuditAction, reason: str, caller: str = "") -> AuditEntry:
    return AuditEntry(
        key=_live_key(served.name, served.version),
        action=action,
        actor=_ACTOR,
        caller=caller,
        job_id=short_text(served.provenance.get("job_id")),
        model_name=served.name,
        model_version=served.version,
        repeats_version=served.repeats_version,
        reason=reason,
        lineage=Lineage.of_bundle(served.digest, served.provenance),
    )


def _undone(name: str, number: int, champion: int) -> AuditEntry:
    return AuditEntry(
        key=f"model/{name}/{number}/undone",
        action=AuditAction.PUBLICATION_UNDONE,
        actor=_ACTOR,
        model_name=name,
        model_version=number,
        reason=f"announced, and cut off before it became the champion; that is {f'version {champion}' if champion else 'none'}",
    )


def _live_key(name: str, number: int) -> str:
    return f"model/{name}/{number}/live"

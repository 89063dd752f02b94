"""How jobs and broker stand, for Prometheus."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import UTC, datetime

from services.common.runtime.broker import Broker
from services.common.runtime.errors import NotFound, Unavailable
from services.common.runtime.queues import WORKER_QUEUES
from services.trainer import metrics
from services.trainer.adapters.redis_lease import STEPS, lease_key
from services.trainer.domain.job import JobState
from services.trainer.handlers.unreadable import UnreadableJobs
from services.trainer.ports import Record

log = logging.getLogger(__name__)

_TIMEOUT_S = 2.0
_IN_WORK = "unacked"
"""The hash in which Celery's Redis transport keeps what is delivered and not acknowledged."""


class JobGauges:
    """Sets the gauges of the record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def look(self) -> None:
        """Bring the gauges to what the record holds now. Raises `Unavailable` when it is away, or several jobs in a row can't be read."""
        unreadable = UnreadableJobs()
        counts: Counter[JobState] = Counter()
        ages_s: dict[JobState, float] = {state: 0.0 for state in JobState if not state.is_final}
        for job_id in self._record.job_ids():
            try:
                state, age_s = self._stand(job_id)
            # One job that can't be read must not take the numbers of the others along.
            except Unavailable as error:
                log.warning("job not counted", extra={"job_id": job_id, "kind": error.kind})
                unreadable.pass_over(error)
                continue
            except (NotFound, ValueError, KeyError):
                log.warning("job not counted", extra={"job_id": job_id})
                continue
            counts[state] += 1
            if state in ages_s:
                unreadable.note_read()
                ages_s[state] = max(ages_s[state], age_s)
        for state in JobState:
            metrics.JOBS.labels(state).set(counts[state])
        for state, age_s in ages_s.items():
            metrics.OLDEST_JOB_SECONDS.labels(state).set(age_s)

    def _stand(self, job_id: str) -> tuple[JobState, float]:
        """A job's state, and for how many seconds it has been in it, 0 where that is an end."""
        state = self._record.brief(job_id).state
        if state.is_final:
            return state, 0.0
        last = self._record.load(job_id).events[-1]
        return last.state, (datetime.now(UTC) - last.at).total_seconds()


class BrokerGauges:
    """Sets the gauges of what lies in Redis."""

    def __init__(self, broker: Broker) -> None:
        self._redis = broker.connect(_TIMEOUT_S)

    def look(self) -> None:
        """Bring the gauges to what lies there now. Raises `redis.RedisError` when it can't be reached."""
        lengths = {queue: self._redis.llen(queue) for queue in WORKER_QUEUES}
        in_work = self._redis.hlen(_IN_WORK)
        held = {step: sum(1 for _ in self._redis.scan_iter(lease_key("*", step), count=1000)) for step in STEPS}
        for queue, length in lengths.items():
            metrics.QUEUE_MESSAGES.labels(queue).set(length)
        metrics.MESSAGES_IN_WORK.set(in_work)
        for step, count in held.items():
            metrics.LEASES.labels(step).set(count)

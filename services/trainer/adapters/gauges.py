"""How jobs and broker stand, for Prometheus."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import redis

from services.common.runtime.queues import WORKER_QUEUES
from services.trainer import metrics
from services.trainer.adapters.redis_lease import STEPS, lease_key
from services.trainer.domain.job import JobState
from services.trainer.ports import Record

_TIMEOUT_S = 2.0
_IN_WORK = "unacked"
"""The hash in which Celery's Redis transport keeps what is delivered and not acknowledged."""


class JobGauges:
    """Sets the gauges of the record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def look(self) -> None:
        """Bring the gauges to what the record holds now."""
        briefs = {job_id: self._record.brief(job_id) for job_id in self._record.job_ids()}
        counts = Counter(brief.state for brief in briefs.values())
        ages_s: dict[JobState, float] = {state: 0.0 for state in JobState if not state.is_final}
        for job_id, brief in briefs.items():
            if not brief.state.is_final:
                last = self._record.load(job_id).events[-1]
                age_s = (datetime.now(UTC) - last.at).total_seconds()
                if last.state in ages_s:  # it may have ended meanwhile
                    ages_s[last.state] = max(ages_s[last.state], age_s)
        for state in JobState:
            metrics.JOBS.labels(state).set(counts[state])
        for state, age_s in ages_s.items():
            metrics.OLDEST_JOB_SECONDS.labels(state).set(age_s)


class BrokerGauges:
    """Sets the gauges of what lies in Redis."""

    def __init__(self, url: str) -> None:
        self._redis = redis.Redis.from_url(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S)

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

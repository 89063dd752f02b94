"""The `ProgressBoard` port on Redis: the latest progress per job, forgotten after a day, missed by nobody when Redis is wiped."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict

import redis

from services.common.runtime.broker import Broker
from services.trainer.ports import Progress

log = logging.getLogger(__name__)

_TTL_S = 24 * 3600
_TIMEOUT_S = 2.0


class RedisProgress:
    """Progress under `plumbline:progress:<job>`."""

    def __init__(self, broker: Broker) -> None:
        self._redis = broker.connect(_TIMEOUT_S)

    def show(self, job_id: str, progress: Progress) -> None:
        """See the port. A board that is away does not stop the work."""
        try:
            self._redis.set(_key(job_id), json.dumps(asdict(progress)), ex=_TTL_S)
        except redis.RedisError as error:
            log.warning("progress not shown", extra={"job_id": job_id, "cause": type(error).__name__})

    def look(self, job_id: str) -> Progress | None:
        """See the port."""
        try:
            content = self._redis.get(_key(job_id))
        except redis.RedisError:
            return None
        return Progress(**json.loads(content)) if content else None


def _key(job_id: str) -> str:
    return f"plumbline:progress:{job_id}"

"""The `Lease` port on Redis: keys that expire, renewed by the holder's heartbeat.

plumbline:lease:<job>:<step>   the holder's token, 30 s
plumbline:active:<job>         something happened, 60 s
plumbline:recovered:<job>      being sent on again, 60 s; sent on again, 600 s
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import redis

from services.common.runtime.broker import Broker
from services.common.runtime.errors import Conflict
from services.trainer.ports import BrokerAway

log = logging.getLogger(__name__)

STEPS = ("critique", "train")
_TIMEOUT_S = 2.0
_RENEW = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('pexpire', KEYS[1], ARGV[2]) or 0"
_RELEASE = "return redis.call('get', KEYS[1]) == ARGV[1] and redis.call('del', KEYS[1]) or 0"


def lease_key(job_id: str, step: str) -> str:
    """Where the lease of a job's step lies."""
    return f"plumbline:lease:{job_id}:{step}"


class RedisLease:
    """Leases of one worker; `lease_s` is how long a dead holder blocks the job."""

    def __init__(
        self,
        broker: Broker,
        lease_s: float = 30.0,
        active_s: float = 60.0,
        claim_s: float = 60.0,
        recovery_s: float = 600.0,
    ) -> None:
        self._redis = broker.connect(_TIMEOUT_S)
        self._lease_s = lease_s
        self._active_s = active_s
        self._claim_s = claim_s
        self._recovery_s = recovery_s

    @contextmanager
    def hold(self, job_id: str, step: str) -> Iterator[Callable[[], bool]]:
        """See the port.

        Raises
        ------
        Conflict
            When somebody else holds the step, or when the block fails after the lease was lost: the job is no longer ours to fail.
        BrokerAway
            When Redis can't be reached.
        """
        key, token = lease_key(job_id, step), uuid.uuid4().hex
        if not _ask(lambda: self._redis.set(key, token, nx=True, px=int(self._lease_s * 1000))):
            raise Conflict(f"job {job_id}: another worker is at the {step} step")
        holding = _Holding(lambda: self._renew(key, token), self._lease_s)
        try:
            yield holding.is_ours
        except Exception as error:
            if not holding.is_ours():
                raise Conflict(f"job {job_id}: the lease was lost at the {step} step") from error
            raise
        finally:
            holding.end()
            self.touch(job_id)
            self._tell(lambda: self._redis.eval(_RELEASE, 1, key, token), job_id)

    def touch(self, job_id: str) -> None:
        """See the port. A broker that is away does not stop the work."""
        self._tell(lambda: self._redis.set(f"plumbline:active:{job_id}", "1", px=int(self._active_s * 1000)), job_id)

    def is_active(self, job_id: str) -> bool:
        """See the port."""
        leases = (lease_key(job_id, step) for step in STEPS)
        return bool(_ask(lambda: self._redis.exists(f"plumbline:active:{job_id}", *leases)))

    def claim_recovery(self, job_id: str) -> bool:
        """See the port. It ends by itself: where sending fails, the broker that would take it back is away."""
        key = _recovery_key(job_id)
        return bool(_ask(lambda: self._redis.set(key, "1", nx=True, px=int(self._claim_s * 1000))))

    def note_recovery(self, job_id: str) -> None:
        """See the port. A broker that is away meanwhile lets the claim end sooner."""
        self._tell(lambda: self._redis.set(_recovery_key(job_id), "1", px=int(self._recovery_s * 1000)), job_id)

    def _renew(self, key: str, token: str) -> bool:
        return bool(self._redis.eval(_RENEW, 1, key, token, int(self._lease_s * 1000)))

    def _tell(self, command: Callable[[], object], job_id: str) -> None:
        try:
            command()
        except redis.RedisError as error:
            log.warning("lease not told", extra={"job_id": job_id, "cause": type(error).__name__})


def _recovery_key(job_id: str) -> str:
    return f"plumbline:recovered:{job_id}"


def _ask(command: Callable[[], object]) -> object:
    try:
        return command()
    except redis.RedisError as error:
        raise BrokerAway("the broker can't be reached") from error


class _Holding:
    """Renews a lease three times within its life; it is ours while the last renewal is younger than that life."""

    def __init__(self, renew: Callable[[], bool], lease_s: float) -> None:
        self._renew = renew
        self._lease_s = lease_s
        self._renewed_at = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="lease")
        self._thread.start()

    def is_ours(self) -> bool:
        return time.monotonic() - self._renewed_at < self._lease_s

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while True:
            begun_at = time.monotonic()
            try:
                if not self._renew():
                    self._renewed_at = -self._lease_s  # somebody else has it
                    return
                self._renewed_at = begun_at
            except redis.RedisError as error:
                log.warning("lease not renewed", extra={"cause": type(error).__name__})
            if self._ended.wait(self._lease_s / 3):
                return

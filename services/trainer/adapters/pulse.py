"""A worker's sign of life: a file that the thread which reads messages touches while it turns.

Celery's consumer may stay deaf after a connection was lost while its process lives on. Its lease of a job does not tell, for that is renewed elsewhere.
"""

from __future__ import annotations

import time
from pathlib import Path

import celery
import redis
from celery import bootsteps
from celery.worker.consumer import Consumer

from services.common.runtime.broker import Broker

BEAT_S = 2.0
STILL_S = 120.0
"""After so long without a beat a worker is deaf. Longer than Celery waits between two tries to reach a broker that is back."""
_BROKER_TIMEOUT_S = 3.0


def beat(app: celery.Celery, pulse: Path) -> None:
    """Let the workers of `app` touch `pulse` every `BEAT_S` while they are connected and turn."""

    class Pulse(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Consumer) -> None:
            pulse.touch()
            self.repeated = consumer.timer.call_repeatedly(BEAT_S, pulse.touch)

        def stop(self, consumer: Consumer) -> None:
            self.repeated.cancel()

    app.steps["consumer"].add(Pulse)


def is_deaf(pulse: Path, broker: Broker, still_s: float = STILL_S) -> bool:
    """Whether a worker has not turned for `still_s`, or never did, although its broker answers: while that is away, to start the worker anew helps nobody."""
    try:
        is_beating = time.time() - pulse.stat().st_mtime < still_s
    except FileNotFoundError:
        is_beating = False
    if is_beating:
        return False
    try:
        return bool(broker.connect(_BROKER_TIMEOUT_S).ping())
    except redis.RedisError:
        return False

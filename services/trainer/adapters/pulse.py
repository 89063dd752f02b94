"""A worker's sign of life: a file that the thread which reads messages touches while it reads.

Celery's consumer may stay deaf after a connection was lost, standing still or turning without asking for messages, while its process and its recovery live on.
"""

from __future__ import annotations

import time
from pathlib import Path

import celery
import redis
from celery import bootsteps
from celery.utils.timer2 import Entry
from celery.worker.consumer import Consumer

from services.common.runtime.broker import Broker

BEAT_S = 2.0
HEARD_S = 30.0
"""kombu asks Redis anew each second; who has not for so long does not listen."""
STILL_S = 120.0
"""After so long without a beat a worker is deaf. Longer than Celery waits between two tries to reach a broker that is back."""
_BROKER_TIMEOUT_S = 3.0


def beat(app: celery.Celery, pulse: Path) -> None:
    """Let the workers of `app` touch `pulse` every `BEAT_S` while they ask for messages, or have their hands full."""

    class Pulse(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)
        repeated: Entry | None = None

        def start(self, consumer: Consumer) -> None:
            def look() -> None:
                if is_listening(consumer):
                    pulse.touch()

            pulse.touch()
            self.repeated = consumer.timer.call_repeatedly(BEAT_S, look)

        def stop(self, consumer: Consumer) -> None:
            if self.repeated:
                self.repeated.cancel()

    app.steps["consumer"].add(Pulse)


def is_listening(consumer: Consumer) -> bool:
    """Whether the consumer has asked Redis for messages lately, or holds as many as it may."""
    channel = consumer.task_consumer.channel
    # When it asked is kombu's own (5.7); a release that keeps it elsewhere is taken to listen.
    asked_at = getattr(channel, "_brpop_sent_at", None)
    return asked_at is None or time.monotonic() - asked_at < HEARD_S or not channel.qos.can_consume()


def is_deaf(pulse: Path, broker: Broker, still_s: float = STILL_S) -> bool:
    """Whether a worker has not beaten for `still_s`, or never did, although its broker answers: while that is away, to start the worker anew helps nobody."""
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

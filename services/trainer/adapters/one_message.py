"""A worker that takes one message, works it off and ends: for pods that an autoscaler starts for what waits and never ends itself."""

from __future__ import annotations

import time

import celery
from celery import bootsteps, signals
from celery.worker import state as worker_state
from celery.worker.consumer import Consumer
from celery.worker.request import Request

_LOOK_S = 0.5


def end_after_one_message(app: celery.Celery, idle_s: float) -> None:
    """Let the worker of `app` end, as on SIGTERM but with nothing interrupted, once its first message is acknowledged, or when none came in `idle_s`."""
    ending = _Ending(time.monotonic() + idle_s)

    class Look(bootsteps.StartStopStep):
        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Consumer) -> None:
            consumer.timer.call_repeatedly(_LOOK_S, ending.look)

    signals.task_received.connect(ending.take, weak=False)
    app.steps["consumer"].add(Look)


class _Ending:
    """When the worker is done. Everything happens in the thread that reads messages."""

    def __init__(self, idle_until: float) -> None:
        self._idle_until = idle_until
        self._taken: Request | None = None

    def take(self, sender: Consumer, request: Request, **_: object) -> None:
        """Note the message, and read no more: while it is not acknowledged no other is asked for."""
        self._taken = request
        for queue in list(sender.app.amqp.queues.consume_from):
            sender.cancel_task_queue(queue)

    def look(self) -> None:
        """Ask Celery to end when it is time."""
        is_over = time.monotonic() > self._idle_until if self._taken is None else self._taken.acknowledged
        if is_over:
            worker_state.should_stop = 0  # the exit status

"""The `Queue` port on Celery, and the Celery app that sender and worker share."""

from __future__ import annotations

import base64
import json

import celery
import redis
from kombu.exceptions import OperationalError

from services.common.runtime.broker import Broker
from services.common.runtime.queues import (
    BATCH_QUEUE,
    CRITIQUE_TASK,
    JOBS_QUEUE,
    TRAIN_TASK,
    URGENT_QUEUE,
    WORKER_QUEUES,
)
from services.trainer.domain.job import Job, Priority
from services.trainer.ports import BrokerAway

VISIBILITY_TIMEOUT_S = 6 * 3600
"""Longer than the longest job: a message that is not acknowledged by then is delivered again."""
_SOCKET_TIMEOUT_S = 10.0
"""For every command: a broker that takes connections and answers nothing must not hold us. The worker's waiting ones (BRPOP) last 1 s."""
_QUEUES = {Priority.URGENT: URGENT_QUEUE, Priority.NORMAL: JOBS_QUEUE, Priority.BATCH: BATCH_QUEUE}
_PAGE = 100
"""Messages read at once: a batch of critiques has up to 64 KiB."""
_RETRY = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.5}


def build_app(broker: Broker) -> celery.Celery:
    """A Celery app that acknowledges late, takes one message at a time and speaks JSON only."""
    transport = {
        "visibility_timeout": VISIBILITY_TIMEOUT_S,
        "socket_connect_timeout": _SOCKET_TIMEOUT_S,
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        # A worker takes from its queues in the order in which they were named to it, instead of from each in turn.
        "queue_order_strategy": "priority",
    }
    app = celery.Celery("plumbline-trainer", broker=broker.url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        broker_use_ssl=broker.tls,
        accept_content=["json"],
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        # Nobody steers workers through the broker, and whoever may write to it should not be able to.
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        # Redis says so where it is full, or a failover made it a replica: that passes, and a worker must outlast it.
        broker_channel_error_retry=True,
        broker_transport_options=transport,
        visibility_timeout=VISIBILITY_TIMEOUT_S,
        task_default_queue=JOBS_QUEUE,
    )
    return app


class CeleryQueue:
    """Sends a job's steps to the workers, through the queue of its priority."""

    def __init__(self, app: celery.Celery) -> None:
        self._app = app

    def send_critique(self, job: Job) -> None:
        """See the port."""
        self._send(CRITIQUE_TASK, job)

    def send_train(self, job: Job) -> None:
        """See the port."""
        self._send(TRAIN_TASK, job)

    def waiting_jobs(self) -> set[str]:
        """See the port. What a worker has taken and not acknowledged waits no more."""
        waiting: set[str] = set()
        try:
            with self._app.connection_for_write() as connection:
                client = connection.default_channel.client
                for queue in WORKER_QUEUES:
                    # Workers take from the far end and senders add at the near one, so no message is passed over.
                    for start in range(0, client.llen(queue), _PAGE):
                        messages = client.lrange(queue, start, start + _PAGE - 1)
                        waiting.update(job_id for message in messages if (job_id := _read_job_id(message)))
        except (OperationalError, OSError, redis.RedisError) as error:
            raise BrokerAway("the broker can't be reached") from error
        return waiting

    def _send(self, task: str, job: Job) -> None:
        try:
            self._app.send_task(
                task,
                kwargs={"job_id": job.job_id},
                queue=_QUEUES[job.request.priority],
                retry=True,
                retry_policy=_RETRY,
                ignore_result=True,
            )
        except (OperationalError, OSError) as error:
            raise BrokerAway(
                "the broker can't be reached; the job is on record, and a worker sends it on once the broker is back"
            ) from error


def _read_job_id(message: bytes) -> str:
    """The job whose step a message on a queue asks for, or whose critiques it brings; "" of another message, and of what is none."""
    try:
        _, arguments, _ = json.loads(base64.b64decode(json.loads(message)["body"]))
        job_id = arguments.get("batch", arguments).get("job_id")
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    return job_id if isinstance(job_id, str) else ""

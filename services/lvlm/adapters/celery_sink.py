"""The `CritiqueSink` port on Celery: a batch is one message, as docs/queues.md has it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import celery
from kombu.exceptions import OperationalError

from services.common.runtime.broker import Broker
from services.common.runtime.errors import Unavailable
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE
from services.common.vision.critique import CritiqueBatch

_TIMEOUT_S = 5.0
_RETRY = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.5}


class CelerySink:
    """Sends batches to the broker; knows nothing of who consumes them."""

    def __init__(self, broker: Broker) -> None:
        self._app = celery.Celery("plumbline-lvlm", broker=broker.url, set_as_current=False)
        self._app.conf.update(
            task_serializer="json",
            broker_use_ssl=broker.tls,
            broker_transport_options={"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S},
        )

    async def publish(self, batches: Sequence[CritiqueBatch]) -> None:
        """See the port."""
        await asyncio.to_thread(self._send, batches)

    def _send(self, batches: Sequence[CritiqueBatch]) -> None:
        try:
            for batch in batches:
                self._app.send_task(
                    CONSUME_CRITIQUES_TASK,
                    kwargs={"batch": batch.model_dump(mode="json")},
                    queue=CRITIQUES_QUEUE,
                    retry=True,
                    retry_policy=_RETRY,
                    ignore_result=True,
                )
        except (OperationalError, OSError) as error:
            raise Unavailable("the broker can't be reached; critiques were not delivered") from error

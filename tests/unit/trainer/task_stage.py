"""Celery's tasks of the trainer around a step that does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import celery
from kombu.message import Message

from services.common.runtime.folder_store import FolderStore
from services.common.runtime.queues import JOBS_QUEUE
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.submitting import Submission
from services.trainer.handlers.training import fail
from services.trainer.tasks import Steps, register_tasks
from tests.unit.trainer.made_up import SPECIFICATION, make_request


class FailingStep:
    """Every use case at once: raises what it is given, call by call, then succeeds."""

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.call_count = 0
        self.submitted: list[Submission] = []
        self.fail: Callable[[str, Exception, str], object]

    def run(self, argument: Any) -> None:
        self.call_count += 1
        if self.failures:
            raise self.failures.pop(0)

    critique = train = consume = run

    def submit(self, submission: Submission) -> None:
        self.run(submission)
        self.submitted.append(submission)


class TaskStage:
    """The tasks on one job that is being critiqued; what they do is `step`'s."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record, self.step = JobRecord(FolderStore(root)), FailingStep()
        self.app = celery.Celery(broker="memory://", set_as_current=False)
        self.app.conf.update(task_default_queue=JOBS_QUEUE, task_ignore_result=True)
        with self.app.connection() as connection:  # one broker for the whole process
            connection.SimpleQueue(JOBS_QUEUE).clear()
        self.step.fail = partial(fail, self.record)
        steps = Steps(self.record, self.step, self.step, self.step, self.step, self.read)
        self.pauses_s: list[float] = []
        register_tasks(self.app, steps, self.pauses_s.append)
        self.job_id = self.record.advance(self.record.file(make_request()), JobState.CRITIQUING).job_id

    def read(self, request: dict[str, str]) -> Submission:
        return Submission(request.get("key", ""), "stripes", 0, "set", SPECIFICATION)

    def run(self, name: str, **kwargs: Any) -> None:
        """One delivery."""
        self.app.tasks[name].apply(kwargs=kwargs or {"job_id": self.job_id}, task_id="t1")

    def run_to_its_end(self, name: str, **kwargs: Any) -> None:
        """One delivery, and those of the messages that come of it."""
        self.run(name, **kwargs)
        while message := self.take():
            self.deliver(message)

    def deliver(self, message: Message) -> None:
        """A message that was sent again."""
        task, (arguments, named, _) = self.app.tasks[message.headers["task"]], message.payload
        task.apply(arguments, named, task_id=message.headers["id"], retries=message.headers["retries"])

    def take(self) -> Message | None:
        """The next message on the queue."""
        with self.app.connection() as connection:
            try:
                return connection.SimpleQueue(JOBS_QUEUE).get_nowait()
            except Empty:
                return None

    @property
    def job(self) -> Job:
        return self.record.load(self.job_id)

    def kept(self, folder: str) -> int:
        return len(list((self.root / folder).glob("*.json")))

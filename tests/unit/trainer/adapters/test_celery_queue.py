"""What is told when the broker is away."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.broker import Broker
from services.common.runtime.errors import Unavailable
from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters.celery_queue import CeleryQueue, build_app
from services.trainer.adapters.job_record import JobRecord
from tests.unit.trainer.made_up import make_request


@pytest.mark.parametrize("send", [CeleryQueue.send_critique, CeleryQueue.send_train])
def test_whoever_files_a_job_or_ends_its_review_is_told_that_it_is_not_lost(tmp_path: Path, send):
    job = JobRecord(FolderStore(tmp_path)).file(make_request())
    with pytest.raises(Unavailable, match="the job is on record, and a worker sends it on once the broker is back"):
        send(CeleryQueue(build_app(Broker("redis://127.0.0.1:1/0"))), job)

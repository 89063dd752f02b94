"""A job that is filed with a review and waits for three critiques, with everybody who has a say in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from services.common.runtime.folder_store import FolderStore
from services.common.vision.critique import Critique
from services.trainer.adapters.job_record import JobRecord
from services.trainer.domain.job import JobState
from services.trainer.domain.review import Decision
from services.trainer.handlers.completing import ASKED, EXPECTED, Completing
from services.trainer.handlers.consuming import Consuming, Outcome
from services.trainer.handlers.reviewing import AskedDecision, ReviewCounts, Reviewing
from tests.unit.trainer.fakes import ListQueue, LocalLease
from tests.unit.trainer.made_up import SIZE, make_critique, make_request

DIGESTS = [f"{number:064x}" for number in range(1, 4)]
PICTURES = [f"sha256:{digest}" for digest in DIGESTS]
WITHOUT = [f"sha256:{9:064x}"]
"""Chosen, but without evidence: nobody was asked, and somebody may speak all the same."""


class ReviewStage:
    """A job with three critiques asked for."""

    def __init__(self, root: Path, review: bool = True) -> None:
        self.root = root
        self.record, self.queue, self.lease = JobRecord(FolderStore(root)), ListQueue(), LocalLease()
        self.completing = Completing(self.record, self.queue)
        self.consuming = Consuming(self.record, self.completing, self.lease)
        self.reviewing = Reviewing(self.record, self.completing)
        job = self.record.file(make_request(review=review))
        self.job_id = self.record.advance(job, JobState.CRITIQUING).job_id
        entry = {"file_name": "a.png", "label": "0", "part": "train", "size": list(SIZE)}
        self.record.write_once(self.job_id, EXPECTED, dict.fromkeys(PICTURES + WITHOUT, entry))
        self.record.write_once(self.job_id, ASKED, PICTURES)

    def consume(self, *digests: str, **changes: Any) -> list[tuple[Outcome, str]]:
        content = [
            make_critique(digest.removeprefix("sha256:"), **changes).model_dump(mode="json") for digest in digests
        ]
        return list(self.consuming.consume({"job_id": self.job_id, "critiques": content}).critiques)

    def decide(self, decision: Decision, *digests: str, reviewer: str = "Dr. Ada") -> ReviewCounts:
        return self.reviewing.review(self.job_id, reviewer, [AskedDecision(digest, decision) for digest in digests])

    def edit(self, digest: str, **changes: Any) -> None:
        self.reviewing.review(
            self.job_id, "Dr. Ada", [AskedDecision(digest, Decision.EDIT, edit=make_edit(digest, **changes))]
        )

    def effective(self) -> list[Critique]:
        return self.record.effective_critiques(self.job_id)

    @property
    def state(self) -> JobState:
        return self.record.load(self.job_id).state


def make_edit(digest: str, **changes: Any) -> dict[str, Any]:
    content = make_critique(digest.removeprefix("sha256:"), reasons="mine").model_dump(mode="json") | changes
    return {name: value for name, value in content.items() if name not in ("model_digest", "provenance")}

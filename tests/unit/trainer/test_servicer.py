"""Requests are read beside the event loop, which answers others meanwhile, and within bounds."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.protobuf.message import Message

from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.errors import InvalidInput
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.retrying import Retrying
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.watching import Watching
from services.trainer.servicer import TrainerServicer
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.review_stage import ReviewStage

MANY = 1000
PLAIN = SimpleNamespace(auth_context=dict)
"""The context of a call without TLS."""


@pytest.fixture
def servicer(tmp_path: Path) -> TrainerServicer:
    stage = ReviewStage(tmp_path)
    explainer = ExplainerClient("127.0.0.1:1", 1.0, 1.0)
    submitting = Submitting(stage.record, explainer, DatasetFolder(tmp_path), stage.queue)
    return TrainerServicer(
        submitting,
        Watching(stage.record, LastProgress()),
        stage.consuming,
        stage.reviewing,
        Retrying(stage.record, submitting),
        Recovering(stage.record, stage.queue, stage.completing, stage.lease, timedelta(0)),
    )


@pytest.mark.parametrize(
    ("method", "request_message", "field"),
    [
        (
            "ReviewCritiques",
            pb.ReviewCritiquesRequest(decisions=[*[pb.PictureDecision(decision=1)] * MANY, pb.PictureDecision()]),
            f"decisions[{MANY}].decision",
        ),
        ("ListAlignments", pb.ListAlignmentsRequest(states=[*[1] * MANY, 99]), f"states[{MANY}]"),
        (
            "SubmitAlignment",
            pb.SubmitAlignmentRequest(specification={"rules": [{"class_name": ""}]}),
            "specification.rules[0].class_name",
        ),
    ],
)
async def test_others_are_answered_while_a_request_is_read(
    servicer: TrainerServicer, method: str, request_message: Message, field: str
):
    order: list[str] = []
    asyncio.get_running_loop().call_soon(order.append, "another")
    with pytest.raises(InvalidInput) as caught:
        await getattr(servicer, method)(request_message, PLAIN)
    order.append("refused")
    assert (caught.value.field, order) == (field, ["another", "refused"])


async def test_a_text_that_no_batch_is_as_long_as_is_not_read(servicer: TrainerServicer):
    with pytest.raises(InvalidInput, match="batch_json: 1048577 characters; at most 1048576 are read"):
        await servicer.PushCritiques(pb.PushCritiquesRequest(batch_json="[" + " " * 2**20), PLAIN)

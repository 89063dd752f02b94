"""Every method of every service, called once: the page has the status that the caller got, and nothing of what was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from google.protobuf import symbol_database
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

from plumbline.common.v1 import vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from plumbline.trainer.v1 import audit_service_pb2 as audit_pb
from plumbline.trainer.v1 import audit_service_pb2_grpc as audit_rpc
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc
from plumbline.uploads import send_upload
from services.common.runtime.audit_log import AuditLog
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.metrics import serve_page
from services.common.runtime.server import build_server
from services.lvlm.bootstrap import build_servicer
from services.lvlm.settings import LvlmSettings
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.audit_servicer import AuditServicer
from services.trainer.handlers.auditing import Auditing
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.retrying import Retrying
from services.trainer.handlers.submitting import Submitting
from services.trainer.handlers.watching import Watching
from services.trainer.servicer import TrainerServicer
from tests.conftest import png
from tests.support.fakes import ScriptedEngine
from tests.support.metrics_page import MetricsPage
from tests.unit.common.test_server import ExampleSettings, free_address
from tests.unit.explainer.served_stage import serve_stage
from tests.unit.explainer.shadow_stage import draw_pictures, make_stage
from tests.unit.trainer.fakes import LastProgress
from tests.unit.trainer.review_stage import ReviewStage

SECRET = "Doe^Jane"
TIMEOUT_S = 30.0
NET = vision_pb2.ModelVersion(name="net")
PICTURE = vision_pb2.Image(data=png(draw_pictures(1)[0]), id=SECRET)
ANSWERED: dict[str, Sequence[Message]] = {
    "Predict": [explainer_pb.PredictRequest(model=NET, images=[PICTURE])],
    "Explain": [explainer_pb.ExplainRequest(model=NET, images=[PICTURE])],
    "ExplainBatch": [
        explainer_pb.ExplainBatchRequest(options=explainer_pb.ExplainRequest(model=NET)),
        explainer_pb.ExplainBatchRequest(image=PICTURE),
    ],
    "ExplainUpload": list(send_upload(explainer_pb.ExplainRequest(model=NET), SECRET, PICTURE.data, 0)),
    "GetShadow": [explainer_pb.GetShadowRequest(name="net")],
    "GroundPhrases": [lvlm_pb.GroundPhrasesRequest(images=[PICTURE], phrases=[SECRET])],
}
"""What is answered rather than refused; an empty request is the other methods'."""
SERVICES: list[ServiceDescriptor] = [
    file.services_by_name[name]
    for file, name in (
        (explainer_pb.DESCRIPTOR, "ExplainerService"),
        (lvlm_pb.DESCRIPTOR, "LvlmService"),
        (trainer_pb.DESCRIPTOR, "TrainerService"),
        (audit_pb.DESCRIPTOR, "AuditService"),
    )
]


@asynccontextmanager
async def serve_explainer(root: Path) -> AsyncIterator[str]:
    async with serve_stage(await make_stage(root)) as (_, servicer):
        yield servicer.address


@asynccontextmanager
async def serve_others(root: Path) -> AsyncIterator[str]:
    """LVLM service and trainer in one."""
    stage = ReviewStage(root)
    submitting = Submitting(stage.record, ExplainerClient("127.0.0.1:1", 1.0, 1.0), DatasetFolder(root), stage.queue)
    watching = Watching(stage.record, LastProgress())
    trainer = TrainerServicer(
        submitting,
        watching,
        stage.consuming,
        stage.reviewing,
        Retrying(stage.record, submitting),
        Recovering(stage.record, stage.queue, stage.completing, stage.lease, timedelta(0)),
    )
    server, _ = build_server(ExampleSettings(listen="127.0.0.1:0"), [each.full_name for each in SERVICES])
    trainer_rpc.add_TrainerServiceServicer_to_server(trainer, server)
    audit_rpc.add_AuditServiceServicer_to_server(AuditServicer(Auditing(AuditLog(FolderStore(root))), watching), server)
    lvlm = build_servicer(LvlmSettings(listen="127.0.0.1:0"), ScriptedEngine(lambda question: "nothing is there"))
    lvlm_rpc.add_LvlmServiceServicer_to_server(lvlm, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)


async def call(channel: grpc.aio.Channel, method: MethodDescriptor) -> str:
    """Call `method` once; the status that came."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer_type = symbol_database.Default().GetSymbol(method.output_type.full_name)
    codec = {"request_serializer": lambda message: message.SerializeToString()}
    codec |= {"response_deserializer": answer_type.FromString}
    empty = symbol_database.Default().GetSymbol(method.input_type.full_name)()
    messages = ANSWERED.get(method.name, [empty])
    if method.server_streaming:
        make = channel.stream_stream if method.client_streaming else channel.unary_stream
        asked = iter(messages) if method.client_streaming else messages[0]
        called = make(path, **codec)(asked, timeout=TIMEOUT_S)
    else:
        called = channel.unary_unary(path, **codec)(messages[0], timeout=TIMEOUT_S)
    try:
        if method.server_streaming:
            async for _ in called:
                pass
        else:
            await called
    except grpc.aio.AioRpcError:
        pass
    return (await called.code()).name


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
async def test_each_method_of_a_service_is_counted_with_the_status_that_came(
    service: ServiceDescriptor, tmp_path: Path
):
    serving = serve_explainer if service.name == "ExplainerService" else serve_others
    page = free_address()
    with serve_page(page):
        async with serving(tmp_path) as address, grpc.aio.insecure_channel(address) as channel:
            for method in service.methods:
                before = MetricsPage(page)
                code = await call(channel, method)
                labels = {"service": service.full_name, "method": method.name}
                async with asyncio.timeout(TIMEOUT_S):
                    # A refusal is on its way before its call has ended.
                    while (after := MetricsPage(page)).sum("plumbline_calls_total", **labels) == before.sum(
                        "plumbline_calls_total", **labels
                    ):
                        await asyncio.sleep(0.01)
                for name, asked in (
                    ("plumbline_calls_total", labels | {"code": code}),
                    ("plumbline_calls_total", labels),
                    ("plumbline_call_seconds_count", labels),
                ):
                    assert after.sum(name, **asked) - before.sum(name, **asked) == 1, (method.name, code)
                assert (method.name not in ANSWERED) or code == "OK"
                assert SECRET not in after.text

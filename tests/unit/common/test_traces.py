"""A trace goes from caller to called over real gRPC, and from a job's filing to its steps; nobody need keep it for that."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common.runtime.errors import NotFound
from services.common.runtime.folder_store import FolderStore
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, TRAIN_TASK
from services.common.runtime.server import build_server
from services.common.runtime.traces import TracedCalls, carry_trace, name_job
from services.trainer.adapters.job_record import JobRecord
from services.trainer.ports import TRACE
from tests.unit.common.test_server import DEADLINE_S, LVLM, ExampleSettings
from tests.unit.trainer.made_up import make_request
from tests.unit.trainer.task_stage import TaskStage

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C


@pytest.fixture
def caller() -> Iterator[None]:
    """A span of a trace that somebody else keeps is open."""
    context = trace.SpanContext(TRACE_ID, 0xB7AD6B7169203331, is_remote=True, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        yield


def is_caller(carried: dict[str, str]) -> bool:
    return f"{TRACE_ID:032x}" in carried.get("traceparent", "")


class Telling(rpc.LvlmServiceServicer):
    """Keeps the trace that it is called in; refuses all calls."""

    def __init__(self) -> None:
        self.carried: list[dict[str, str]] = []

    async def GroundPhrases(self, request, context):
        self.carried.append(carry_trace())
        raise NotFound("gone")


async def call(servicer: Telling, *metadata: tuple[str, str]) -> None:
    """Call the service as the trainer does, from a thread."""
    server, _ = build_server(ExampleSettings(listen="127.0.0.1:0"), [LVLM])
    rpc.add_LvlmServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = rpc.LvlmServiceStub(grpc.intercept_channel(channel, TracedCalls()))
            with pytest.raises(grpc.RpcError, match="gone"):
                stub.GroundPhrases(pb.GroundPhrasesRequest(), timeout=DEADLINE_S, metadata=metadata)

    await asyncio.to_thread(ask)
    await server.stop(None)


@pytest.mark.usefixtures("caller")
async def test_a_trace_goes_along_with_a_call_beside_what_the_caller_sends():
    servicer = Telling()
    await call(servicer, ("x-own", "kept"))
    assert [is_caller(carried) for carried in servicer.carried] == [True]


@pytest.mark.parametrize("header", ["", "nonsense", "00-0-0-00", "\u00ff" * 3])
async def test_a_call_without_a_trace_or_with_nonsense_for_one_is_answered(header: str):
    servicer = Telling()
    await call(servicer, *((("traceparent", header.encode("ascii", "replace").decode()),) if header else ()))
    assert servicer.carried == [{}]


@pytest.mark.usefixtures("caller")
def test_a_job_keeps_the_trace_that_it_was_filed_in_and_a_second_filing_does_not_change_it(tmp_path: Path):
    record = JobRecord(FolderStore(tmp_path))
    job = record.file(make_request(idempotency_key="once"))
    first = record.read(job.job_id, TRACE)
    assert is_caller(first)
    with trace.use_span(trace.INVALID_SPAN):
        assert record.file(make_request(idempotency_key="once")).job_id == job.job_id
    assert record.read(job.job_id, TRACE) == first


def test_a_span_names_the_job_and_nothing_that_is_no_jobs_id(tmp_path: Path):
    job_id = JobRecord(FolderStore(tmp_path)).file(make_request()).job_id
    tracer = TracerProvider().get_tracer("test")
    for told, named in ((job_id, job_id), ("Doe^Jane 1970-01-01", None), ("", None), (f"{job_id}\n", None)):
        with tracer.start_as_current_span("step") as opened:
            name_job(told)
        assert opened.attributes.get("plumbline.job_id") == named


def test_a_job_that_was_filed_in_no_trace_keeps_none(tmp_path: Path):
    record = JobRecord(FolderStore(tmp_path))
    assert record.read(record.file(make_request()).job_id, TRACE) is None


def run_steps(stage: TaskStage) -> list[dict[str, str]]:
    """The traces in which a job's steps run, a batch of critiques among them."""
    carried: list[dict[str, str]] = []
    stage.step.train = stage.step.consume = lambda _: carried.append(carry_trace())
    stage.run(TRAIN_TASK)
    stage.run(CONSUME_CRITIQUES_TASK, batch={"job_id": stage.job_id, "critiques": []})
    return carried


def test_a_jobs_steps_go_on_in_its_trace_whoever_sent_them_on(tmp_path: Path, caller: None):
    stage = TaskStage(tmp_path)
    with trace.use_span(trace.INVALID_SPAN):
        assert [is_caller(carried) for carried in run_steps(stage)] == [True, True]


@pytest.mark.parametrize("kept", [None, "no headers", ["a list"], {"traceparent": 7}])
def test_a_jobs_steps_run_without_a_trace_and_with_a_broken_one(tmp_path: Path, kept: object):
    stage = TaskStage(tmp_path)
    if kept is not None:
        stage.record.write_once(stage.job_id, TRACE, kept)
    assert run_steps(stage) == [{}, {}]


def test_a_message_of_a_job_that_is_none_runs_without_a_trace(tmp_path: Path):
    stage = TaskStage(tmp_path)
    stage.run(TRAIN_TASK, job_id="../../etc")
    assert stage.step.call_count == 1


async def test_a_stream_whose_caller_leaves_ends_its_span_without_a_word(caplog: pytest.LogCaptureFixture):
    entered = asyncio.Event()

    async def stream(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        yield b"first"
        entered.set()
        await asyncio.sleep(60)

    handler = grpc.unary_stream_rpc_method_handler(stream, bytes)
    server, _ = build_server(ExampleSettings(listen="127.0.0.1:0"), [])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("plumbline.Streams", {"Watch": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_stream("/plumbline.Streams/Watch")(b"", timeout=DEADLINE_S)
        assert await call.read() == b"first"
        await asyncio.wait_for(entered.wait(), DEADLINE_S)
        call.cancel()
    await server.stop(None)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4317", "http://", "ftp://host"])
def test_an_endpoint_that_is_none_is_refused_by_the_settings(endpoint: str):
    with pytest.raises(ValueError, match="otlp_endpoint"):
        ExampleSettings(listen="127.0.0.1:0", otlp_endpoint=endpoint)

"""Every kind of failure through a real server: code, field, reason, retry advice."""

import gc
import logging
import re
import weakref
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.runtime import errors
from services.common.runtime.grpc_status import CODES, ErrorInterceptor, from_rpc_error

HEALTH = "/grpc.health.v1.Health"


class Raising(health_pb2_grpc.HealthServicer):
    """A servicer that fails as it is told; `Check` for unary, `Watch` for streams."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def Check(self, request, context):
        raise self._error

    async def Watch(self, request, context):
        yield health_pb2.HealthCheckResponse()
        raise self._error


async def call(
    failing: Exception | health_pb2_grpc.HealthServicer, is_stream: bool = False, data: bytes = b""
) -> grpc.aio.AioRpcError:
    """What a caller sees who sends `data` to a servicer that fails, by the error given or of itself."""
    servicer = Raising(failing) if isinstance(failing, Exception) else failing
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await (
                    _read_all(channel, data) if is_stream else channel.unary_unary(f"{HEALTH}/Check")(data, timeout=5)
                )
        return caught.value
    finally:
        await server.stop(None)


async def _read_all(channel: grpc.aio.Channel, data: bytes) -> None:
    await _read_on(channel.unary_stream(f"{HEALTH}/Watch")(data, timeout=5))


async def _read_on(answers: AsyncIterator[bytes]) -> None:
    async for _ in answers:
        pass


def make(kind: type[errors.ServiceError]) -> errors.ServiceError:
    return kind("images[3].data", "empty") if kind is errors.InvalidInput else kind("told so")


def details(error: grpc.aio.AioRpcError, message: type) -> list:
    """What the status carries of one kind of message."""
    metadata = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    unpacked = [(message(), detail) for detail in status.details]
    return [found for found, detail in unpacked if detail.Unpack(found)]


def test_every_kind_has_a_code_and_a_name():
    kinds = {*errors.ServiceError.__subclasses__(), errors.TooManyCalls}
    assert kinds == set(CODES)
    assert len({kind.kind for kind in kinds}) == len(kinds)


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_kind_arrives_with_its_code_and_reason(kind):
    caught = await call(make(kind))
    assert caught.code() == CODES[kind]
    assert details(caught, error_details_pb2.ErrorInfo)[0].reason == kind.kind


async def test_invalid_input_names_the_field():
    caught = await call(errors.InvalidInput("images[3].data", "empty"))
    violation = details(caught, error_details_pb2.BadRequest)[0].field_violations[0]
    assert (violation.field, violation.description) == ("images[3].data", "empty")


async def test_every_fault_of_a_request_is_named_in_its_order():
    faults = [errors.Violation(f"sentences[{index}].text", f"fault {index}") for index in range(3)]
    with pytest.raises(errors.InvalidInput) as raised:
        errors.InvalidInput.raise_any(faults)
    found = details(await call(raised.value.below("request")), error_details_pb2.BadRequest)[0].field_violations
    assert [(fault.field, fault.description) for fault in found] == [
        (f"request.sentences[{index}].text", f"fault {index}") for index in range(3)
    ]


def test_no_fault_raises_nothing():
    errors.InvalidInput.raise_any([])


@pytest.mark.parametrize("letter", ["x", "語", "%"])
async def test_many_long_faults_keep_the_status_and_the_first_words_of_the_first_ones(letter):
    faults = [errors.Violation("f" * 300, f"fault {index} " + letter * 2000) for index in range(100)]
    caught = await call(errors.InvalidInput("first", letter * 2000, *faults))
    assert caught.code() == grpc.StatusCode.INVALID_ARGUMENT
    found = details(caught, error_details_pb2.BadRequest)[0].field_violations
    assert [fault.description.split(letter)[0] for fault in found[1:3]] == ["fault 0 ", "fault 1 "]
    # Percent encoding makes three bytes of one. From 8 KiB on, gRPC takes headers by chance.
    details_bytes = len(dict(caught.trailing_metadata())["grpc-status-details-bin"])
    assert 3 * len(caught.details().encode()) + details_bytes < 8000


@pytest.mark.parametrize("is_stream", [False, True])
async def test_bytes_that_are_no_message_are_the_callers_mistake(is_stream, caplog):
    caught = await call(RuntimeError("never reached"), is_stream, data=b"\x0a\xff")
    assert caught.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught, error_details_pb2.BadRequest)[0].field_violations[0].field == "request"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and record.name != "asyncio"]


async def test_overload_says_when_to_come_back():
    caught = await call(errors.Overloaded("full", retry_after_s=2.5))
    assert details(caught, error_details_pb2.RetryInfo)[0].retry_delay.ToTimedelta().total_seconds() == 2.5


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_retry_advice_goes_with_what_passes_by_itself_and_with_nothing_else(kind):
    advised = details(await call(make(kind)), error_details_pb2.RetryInfo)
    assert bool(advised) == issubclass(kind, (errors.Overloaded, errors.Unavailable))


@pytest.mark.parametrize("letter", ["x", "ß", "語", "\U0001f9e0", "%"])
@pytest.mark.parametrize("kind", [errors.InvalidInput, errors.NotFound], ids=lambda kind: kind.__name__)
async def test_long_refusal_keeps_its_status_and_its_first_words(kind, letter):
    text = "first words " + letter * 100_000
    error = errors.InvalidInput(f"rules[{letter * 10_000}]", text) if kind is errors.InvalidInput else kind(text)
    caught = await call(error)
    assert caught.code() == CODES[kind]
    assert caught.details().startswith("rules[" if kind is errors.InvalidInput else "first words")
    assert details(caught, error_details_pb2.ErrorInfo)[0].reason == kind.kind


async def test_narrower_error_has_the_code_of_its_kind():
    class LeaseLost(errors.Conflict):
        pass

    assert (await call(LeaseLost("another worker has it"))).code() == grpc.StatusCode.ABORTED


async def test_details_that_are_not_a_status_are_left_aside():
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff"))
    )
    assert isinstance(from_rpc_error(error, "triton"), errors.NotFound)


async def test_bug_is_internal_and_tells_nothing_but_a_request_id():
    caught = await call(ValueError("the patient's name"))
    assert caught.code() == grpc.StatusCode.INTERNAL
    assert re.fullmatch("internal error, request [0-9a-f]{32}", caught.details())
    assert not details(caught, error_details_pb2.ErrorInfo)


class Held:
    """Stands for the pictures of a request."""


class Holding(health_pb2_grpc.HealthServicer):
    """Fails with something large in its frames."""

    def __init__(self) -> None:
        self.held: list[weakref.ref[Held]] = []

    async def Check(self, request, context):
        large = Held()
        self.held.append(weakref.ref(large))
        raise errors.InvalidInput("images[0].data", "too large")

    async def Watch(self, request, context):
        yield health_pb2.HealthCheckResponse()
        await self.Check(request, context)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_nothing_of_a_refused_request_waits_for_the_garbage_collector(is_stream):
    servicer = Holding()
    gc.disable()
    try:
        for _ in range(3):
            await call(servicer, is_stream)
        assert [reference() for reference in servicer.held] == [None] * 3
    finally:
        gc.enable()


async def test_bugs_stack_is_logged_under_the_request_id(caplog):
    caught = await call(ValueError("the cause"))
    record = next(record for record in caplog.records if record.exc_info)
    assert record.request_id in caught.details()


async def test_callers_mistake_is_no_error_in_the_log(caplog):
    caplog.set_level(logging.INFO, "services")
    await call(errors.InvalidInput("image", "the patient's name"))
    records = [record for record in caplog.records if record.name.startswith("services")]
    assert [(record.levelname, record.exc_info) for record in records] == [("INFO", None)]
    assert "patient" not in str([vars(record) for record in records])


async def call_in_a_stream(failing: Exception, is_answered_in_a_stream: bool, data: bytes) -> grpc.aio.AioRpcError:
    """What a caller sees who streams an empty message and then `data` to a method that fails after the second."""

    async def receive(requests, context):
        async for request in requests:
            if request.service:
                raise failing
        return health_pb2.HealthCheckResponse()

    async def answer(requests, context):
        async for request in requests:
            yield health_pb2.HealthCheckResponse()
            if request.service:
                raise failing

    kinds = {"request_deserializer": health_pb2.HealthCheckRequest.FromString}
    kinds["response_serializer"] = health_pb2.HealthCheckResponse.SerializeToString
    handlers = {
        "Receive": grpc.stream_unary_rpc_method_handler(receive, **kinds),
        "Answer": grpc.stream_stream_rpc_method_handler(answer, **kinds),
    }
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("Streams", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            if is_answered_in_a_stream:
                answers = channel.stream_stream("/Streams/Answer")(iter([b"", data]), timeout=5)
                reading = _read_on(answers)
            else:
                reading = channel.stream_unary("/Streams/Receive")(iter([b"", data]), timeout=5)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await reading
        return caught.value
    finally:
        await server.stop(None)


@pytest.mark.parametrize("is_answered_in_a_stream", [False, True])
@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_kind_arrives_from_a_method_that_takes_a_stream(kind, is_answered_in_a_stream):
    message = health_pb2.HealthCheckRequest(service="fail").SerializeToString()
    caught = await call_in_a_stream(make(kind), is_answered_in_a_stream, message)
    assert caught.code() == CODES[kind]
    assert details(caught, error_details_pb2.ErrorInfo)[0].reason == kind.kind


@pytest.mark.parametrize("is_answered_in_a_stream", [False, True])
async def test_bytes_in_a_stream_that_are_no_message_are_the_callers_mistake(is_answered_in_a_stream, caplog):
    caught = await call_in_a_stream(RuntimeError("never reached"), is_answered_in_a_stream, b"\x0a\xff")
    assert caught.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught, error_details_pb2.BadRequest)[0].field_violations[0].field == "request"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR and record.name != "asyncio"]


async def test_stream_that_fails_after_its_first_message_keeps_the_status():
    caught = await call(errors.NotFound("gone"), is_stream=True)
    assert caught.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_neighbours_status_becomes_the_same_kind_again(kind):
    error = from_rpc_error(await call(make(kind)), "explainer")
    assert type(error) is kind
    assert error.message.startswith("explainer: ")


async def test_neighbours_retry_advice_is_handed_on():
    error = from_rpc_error(await call(errors.Overloaded("full", retry_after_s=2.5)), "lvlm")
    assert error.retry_after_s == 2.5


async def test_neighbours_bug_is_not_taken_for_a_models_bad_answer():
    assert isinstance(from_rpc_error(await call(ValueError("bug")), "lvlm"), errors.Unavailable)


async def test_method_that_a_neighbour_lacks_is_unsupported():
    server = grpc.aio.server(interceptors=[ErrorInterceptor()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
    await server.stop(None)
    assert isinstance(from_rpc_error(caught.value, "lvlm"), errors.Unsupported)

"""What a failed call is called."""

from __future__ import annotations

import threading
from functools import partial

import grpc
import pytest
from grpc_status import rpc_status

from plumbline.client import Client
from plumbline.errors import PlumblineError, from_rpc_error
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from plumbline.trainer.v1 import trainer_service_pb2_grpc as rpc
from services.common.runtime.errors import Unavailable
from services.common.runtime.grpc_status import to_status
from tests.support.commands import serve


class _Failed(grpc.RpcError):
    """As gRPC itself makes it, with no details of a service's."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        self.code = lambda: code
        self.details = lambda: words


def test_a_call_that_an_ending_server_cancelled_is_one_to_ask_again():
    error = from_rpc_error(_Failed(grpc.StatusCode.CANCELLED, "CANCELLED"), "trainer")
    assert (error.code, str(error)) == ("UNAVAILABLE", "the trainer went away while it was asked; ask again")


def test_a_server_that_is_not_there_is_told_as_that():
    nowhere = "127.0.0.1:1"
    with Client(nowhere, nowhere, nowhere) as client, pytest.raises(PlumblineError, match="can't be reached"):
        client.models()


class _Trainer(rpc.TrainerServiceServicer):
    """Gives no answer before it is told to."""

    def __init__(self) -> None:
        self.answered = threading.Event()

    def GetAlignment(self, request, context):
        self.answered.wait(60)
        return pb.GetAlignmentResponse()


@pytest.mark.parametrize(
    "words", ["Stream removed (Socket closed)", "recvmsg:Connection reset by peer", "Cancelling all calls"]
)
def test_a_server_that_ends_in_the_middle_of_a_call_is_told_as_that(words: str):
    error = from_rpc_error(_Failed(grpc.StatusCode.UNAVAILABLE, words), "trainer")
    assert (error.code, str(error)) == ("UNAVAILABLE", "the trainer went away while it was asked; ask again")


def test_a_server_that_hangs_is_told_as_that(monkeypatch: pytest.MonkeyPatch):
    trainer = _Trainer()
    with serve(trainer) as address, Client(address, address, address) as client:
        monkeypatch.setattr(client, "_call", partial(client._call, timeout_s=0.2))
        with pytest.raises(PlumblineError, match="the trainer gave no answer in time") as caught:
            client.job("job-1")
        trainer.answered.set()
    assert caught.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("words", ["failed to connect to all addresses", "Socket closed"])
def test_a_service_whose_neighbour_is_away_is_not_called_away_itself(words: str):
    class Trainer(rpc.TrainerServiceServicer):
        def GetAlignment(self, request, context):
            context.abort_with_status(rpc_status.to_status(to_status(Unavailable(f"explainer: {words}"))))

    with (
        serve(Trainer()) as address,
        Client(address, address, address) as client,
        pytest.raises(PlumblineError) as caught,
    ):
        client.job("job-1")
    assert str(caught.value) == f"trainer: explainer: {words} [UNAVAILABLE]"

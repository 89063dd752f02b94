"""What a failed call is called."""

from __future__ import annotations

import grpc
import pytest

from plumbline.client import Client
from plumbline.errors import PlumblineError, from_rpc_error


class _Cancelled(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "CANCELLED"


def test_a_call_that_an_ending_server_cancelled_is_one_to_ask_again():
    error = from_rpc_error(_Cancelled(), "trainer")
    assert (error.code, str(error)) == ("UNAVAILABLE", "the trainer went away while it was asked; ask again")


def test_a_server_that_is_not_there_is_told_as_that():
    nowhere = "127.0.0.1:1"
    with Client(nowhere, nowhere, nowhere) as client, pytest.raises(PlumblineError, match="can't be reached"):
        client.models()

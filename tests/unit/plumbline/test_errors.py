"""What a failed call is called."""

from __future__ import annotations

import grpc

from plumbline.errors import from_rpc_error


class _Cancelled(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "CANCELLED"


def test_a_call_that_an_ending_server_cancelled_is_one_to_ask_again():
    error = from_rpc_error(_Cancelled(), "trainer")
    assert (error.code, str(error)) == ("UNAVAILABLE", "the trainer went away while it was asked; ask again")

"""Commands of `plumbline` and the stand-ins of services that they talk to."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from typer.testing import CliRunner, Result

from plumbline.cli import app
from plumbline.client import MAX_MESSAGE_BYTES
from plumbline.explainer.v1 import explainer_service_pb2_grpc as explainer_rpc
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as lvlm_rpc
from plumbline.trainer.v1 import trainer_service_pb2_grpc as trainer_rpc

NOWHERE = "127.0.0.1:1"
_ADDERS = {
    explainer_rpc.ExplainerServiceServicer: explainer_rpc.add_ExplainerServiceServicer_to_server,
    lvlm_rpc.LvlmServiceServicer: lvlm_rpc.add_LvlmServiceServicer_to_server,
    trainer_rpc.TrainerServiceServicer: trainer_rpc.add_TrainerServiceServicer_to_server,
}


@contextmanager
def serve(*servicers: object) -> Iterator[str]:
    """Serve on a free port until the block ends; yields host:port."""
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)])
    for servicer in servicers:
        (add,) = (add for base, add in _ADDERS.items() if isinstance(servicer, base))
        add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def run_command(*words: str, explainer: str = NOWHERE, lvlm: str = NOWHERE, trainer: str = NOWHERE) -> Result:
    """Run `plumbline` with these words against services at these addresses."""
    addresses = ["--explainer", explainer, "--lvlm", lvlm, "--trainer", trainer]
    return CliRunner().invoke(app, [*addresses, *words], env={"COLUMNS": "200"})

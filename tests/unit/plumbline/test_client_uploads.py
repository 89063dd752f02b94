"""A picture that is sent in pieces, to a stand-in of the explainer that takes a number of calls a second."""

from __future__ import annotations

from grpc_status import rpc_status

from plumbline.client import Client
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from services.common.runtime.errors import TooManyCalls
from services.common.runtime.grpc_status import to_status
from tests.support.commands import serve


class Explainer(rpc.ExplainerServiceServicer):
    """Refuses the first call."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.refused = 0

    def ExplainUpload(self, requests, context):
        if not self.refused:
            self.refused += 1
            status = to_status(TooManyCalls("one too many", retry_after_s=0.1))
            context.abort_with_status(rpc_status.to_status(status))
        self.taken.append(b"".join(request.piece for request in requests))
        yield pb.ExplainUploadResponse(explained={"explanations": [{"image_id": "film.png"}]})
        yield pb.ExplainUploadResponse(attribution_piece=b"map")


def test_an_upload_that_is_one_call_too_many_is_sent_again_whole():
    explainer, film = Explainer(), bytes(3 * 2**20)
    with serve(explainer) as address, Client(address, address, address) as client:
        reply = client.explain_upload(pb.ExplainRequest(), ("film.png", film))
    assert (explainer.refused, explainer.taken) == (1, [film])
    assert reply.explanations[0].attribution.data == b"map"

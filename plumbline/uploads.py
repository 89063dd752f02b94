"""Files and answers that are larger than a message: cut into pieces, and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from plumbline.explainer.v1 import explainer_service_pb2 as pb

PIECE_BYTES = 2**20


def in_pieces(data: bytes) -> Iterator[bytes]:
    """`data` a MiB at a time, the last piece shorter; none when it is empty."""
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def send_upload(options: pb.ExplainRequest, name: str, data: bytes, frame: int) -> Iterator[pb.ExplainUploadRequest]:
    """The messages of an `ExplainUpload` of the file `data`, to be explained as `options` say."""
    upload = pb.Upload(options=options, size_bytes=len(data), image_id=name, frame=frame)
    yield pb.ExplainUploadRequest(upload=upload)
    for piece in in_pieces(data):
        yield pb.ExplainUploadRequest(piece=piece)


def read_upload(answers: Iterable[pb.ExplainUploadResponse]) -> pb.ExplainResponse:
    """The answer of an `ExplainUpload`, as `Explain` would have given it in one message."""
    reply, evidence, overlay = pb.ExplainResponse(), bytearray(), bytearray()
    for answer in answers:
        if answer.WhichOneof("content") == "explained":
            reply = answer.explained
        evidence += answer.attribution_piece
        overlay += answer.overlay_piece
    (explanation,) = reply.explanations
    explanation.attribution.data, explanation.overlay_png = bytes(evidence), bytes(overlay)
    return reply

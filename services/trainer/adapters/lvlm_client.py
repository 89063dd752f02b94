"""The `Lvlm` port over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

from plumbline.certificates import CertificateFiles
from plumbline.chunks import call_in_parts, in_chunks
from plumbline.common.v1 import vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from services.common import wire
from services.common.vision.class_specification import ClassSpecification
from services.common.vision.critique import MAX_BATCH_CRITIQUES
from services.common.vision.typed_rules import MaskSource, TypedRule
from services.trainer.adapters.channel import calling, is_too_much, open_channel
from services.trainer.ports import ExplainedSample, ModelAnswer


class LvlmClient:
    """Speaks to one LVLM service; every call has a deadline."""

    def __init__(self, address: str, timeout_s: float, certificates: CertificateFiles | None = None) -> None:
        self._stub = rpc.LvlmServiceStub(open_channel(address, certificates))
        self._timeout_s = timeout_s

    def translate(
        self,
        model: ModelAnswer,
        specification: ClassSpecification,
        pictures: Sequence[ExplainedSample],
        job_id: str,
        mask_source: MaskSource,
        typed_rules: Sequence[TypedRule],
    ) -> None:
        """See the port."""

        def ask(images: Sequence[pb.ExplainedImage]) -> None:
            request = pb.TranslateSpecificationRequest(
                model=vision_pb2.ModelVersion(name=model.name, version=model.version, digest=model.digest),
                specification=wire.specification_to_proto(specification),
                images=images,
                job_id=job_id,
                mask_source=wire.mask_source_to_proto(mask_source),
                rules=map(wire.rule_to_proto, typed_rules),
            )
            with calling("lvlm"):
                self._stub.TranslateSpecification(request, timeout=self._timeout_s)

        # Large pictures with their masks may be more than a message holds, in either direction.
        for images in in_chunks(map(_explained, pictures), MAX_BATCH_CRITIQUES, pb.ExplainedImage.ByteSize):
            call_in_parts(ask, images, is_too_much)


def _explained(picture: ExplainedSample) -> pb.ExplainedImage:
    return pb.ExplainedImage(
        image=vision_pb2.Image(data=picture.data, id=picture.sample.file_name),
        target_label=picture.target_label,
        true_label=picture.sample.label,
        segments=[wire.segment_to_proto(segment) for segment in picture.segments],
    )

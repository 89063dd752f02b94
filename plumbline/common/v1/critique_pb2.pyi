from plumbline.common.v1 import vision_pb2 as _vision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_SPURIOUS: _ClassVar[Verdict]
    VERDICT_CORE: _ClassVar[Verdict]
    VERDICT_UNSURE: _ClassVar[Verdict]
    VERDICT_FAILED: _ClassVar[Verdict]
VERDICT_UNSPECIFIED: Verdict
VERDICT_SPURIOUS: Verdict
VERDICT_CORE: Verdict
VERDICT_UNSURE: Verdict
VERDICT_FAILED: Verdict

class SegmentVerdict(_message.Message):
    __slots__ = ("segment_index", "verdict", "share", "mask", "judged_verdict", "grounded_verdict")
    SEGMENT_INDEX_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    JUDGED_VERDICT_FIELD_NUMBER: _ClassVar[int]
    GROUNDED_VERDICT_FIELD_NUMBER: _ClassVar[int]
    segment_index: int
    verdict: Verdict
    share: float
    mask: _vision_pb2.Mask
    judged_verdict: Verdict
    grounded_verdict: Verdict
    def __init__(self, segment_index: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., share: _Optional[float] = ..., mask: _Optional[_Union[_vision_pb2.Mask, _Mapping]] = ..., judged_verdict: _Optional[_Union[Verdict, str]] = ..., grounded_verdict: _Optional[_Union[Verdict, str]] = ...) -> None: ...

class Critique(_message.Message):
    __slots__ = ("image_id", "image_digest", "true_label", "reasons", "verdicts", "failure")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    image_digest: str
    true_label: str
    reasons: str
    verdicts: _containers.RepeatedCompositeFieldContainer[SegmentVerdict]
    failure: str
    def __init__(self, image_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., true_label: _Optional[str] = ..., reasons: _Optional[str] = ..., verdicts: _Optional[_Iterable[_Union[SegmentVerdict, _Mapping]]] = ..., failure: _Optional[str] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("engine", "model_id", "prompt_digest", "seed")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    engine: str
    model_id: str
    prompt_digest: str
    seed: int
    def __init__(self, engine: _Optional[str] = ..., model_id: _Optional[str] = ..., prompt_digest: _Optional[str] = ..., seed: _Optional[int] = ...) -> None: ...

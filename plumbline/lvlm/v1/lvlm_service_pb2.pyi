from plumbline.common.v1 import critique_pb2 as _critique_pb2
from plumbline.common.v1 import vision_pb2 as _vision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainedImage(_message.Message):
    __slots__ = ("image", "target_label", "true_label", "segments")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    TRUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    image: _vision_pb2.Image
    target_label: str
    true_label: str
    segments: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Segment]
    def __init__(self, image: _Optional[_Union[_vision_pb2.Image, _Mapping]] = ..., target_label: _Optional[str] = ..., true_label: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[_vision_pb2.Segment, _Mapping]]] = ...) -> None: ...

class DescribeBehaviorRequest(_message.Message):
    __slots__ = ("model", "images")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    images: _containers.RepeatedCompositeFieldContainer[ExplainedImage]
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., images: _Optional[_Iterable[_Union[ExplainedImage, _Mapping]]] = ...) -> None: ...

class ImageDescription(_message.Message):
    __slots__ = ("image_id", "target_label", "text", "covers")
    class CoversEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    COVERS_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    target_label: str
    text: str
    covers: _containers.ScalarMap[int, str]
    def __init__(self, image_id: _Optional[str] = ..., target_label: _Optional[str] = ..., text: _Optional[str] = ..., covers: _Optional[_Mapping[int, str]] = ...) -> None: ...

class ClassBehavior(_message.Message):
    __slots__ = ("target_label", "text", "evidence", "image_count")
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    target_label: str
    text: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    image_count: int
    def __init__(self, target_label: _Optional[str] = ..., text: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., image_count: _Optional[int] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("thing", "image_ids", "mean_share")
    THING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    MEAN_SHARE_FIELD_NUMBER: _ClassVar[int]
    thing: str
    image_ids: _containers.RepeatedScalarFieldContainer[str]
    mean_share: float
    def __init__(self, thing: _Optional[str] = ..., image_ids: _Optional[_Iterable[str]] = ..., mean_share: _Optional[float] = ...) -> None: ...

class DescribeBehaviorResponse(_message.Message):
    __slots__ = ("images", "classes", "provenance")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageDescription]
    classes: _containers.RepeatedCompositeFieldContainer[ClassBehavior]
    provenance: _critique_pb2.Provenance
    def __init__(self, images: _Optional[_Iterable[_Union[ImageDescription, _Mapping]]] = ..., classes: _Optional[_Iterable[_Union[ClassBehavior, _Mapping]]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

class TranslateSpecificationRequest(_message.Message):
    __slots__ = ("model", "specification", "images", "job_id")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    specification: _vision_pb2.ClassSpecification
    images: _containers.RepeatedCompositeFieldContainer[ExplainedImage]
    job_id: str
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., images: _Optional[_Iterable[_Union[ExplainedImage, _Mapping]]] = ..., job_id: _Optional[str] = ...) -> None: ...

class TranslateSpecificationResponse(_message.Message):
    __slots__ = ("critiques", "provenance")
    CRITIQUES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    critiques: _containers.RepeatedCompositeFieldContainer[_critique_pb2.Critique]
    provenance: _critique_pb2.Provenance
    def __init__(self, critiques: _Optional[_Iterable[_Union[_critique_pb2.Critique, _Mapping]]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

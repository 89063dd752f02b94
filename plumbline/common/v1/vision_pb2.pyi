from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ProblemType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROBLEM_TYPE_UNSPECIFIED: _ClassVar[ProblemType]
    PROBLEM_TYPE_SINGLE_LABEL: _ClassVar[ProblemType]
    PROBLEM_TYPE_MULTI_LABEL: _ClassVar[ProblemType]

class MaskSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MASK_SOURCE_UNSPECIFIED: _ClassVar[MaskSource]
    MASK_SOURCE_JUDGED: _ClassVar[MaskSource]
    MASK_SOURCE_GROUNDED: _ClassVar[MaskSource]
    MASK_SOURCE_AGREED: _ClassVar[MaskSource]

class Polarity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POLARITY_UNSPECIFIED: _ClassVar[Polarity]
    POLARITY_MUST: _ClassVar[Polarity]
    POLARITY_MUST_NOT: _ClassVar[Polarity]
PROBLEM_TYPE_UNSPECIFIED: ProblemType
PROBLEM_TYPE_SINGLE_LABEL: ProblemType
PROBLEM_TYPE_MULTI_LABEL: ProblemType
MASK_SOURCE_UNSPECIFIED: MaskSource
MASK_SOURCE_JUDGED: MaskSource
MASK_SOURCE_GROUNDED: MaskSource
MASK_SOURCE_AGREED: MaskSource
POLARITY_UNSPECIFIED: Polarity
POLARITY_MUST: Polarity
POLARITY_MUST_NOT: Polarity

class Image(_message.Message):
    __slots__ = ("data", "id", "frame")
    DATA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    id: str
    frame: int
    def __init__(self, data: _Optional[bytes] = ..., id: _Optional[str] = ..., frame: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("data", "dtype", "shape")
    DATA_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, data: _Optional[bytes] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Mask(_message.Message):
    __slots__ = ("counts", "height_px", "width_px")
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    counts: str
    height_px: int
    width_px: int
    def __init__(self, counts: _Optional[str] = ..., height_px: _Optional[int] = ..., width_px: _Optional[int] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("index", "share", "mask")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    index: int
    share: float
    mask: Mask
    def __init__(self, index: _Optional[int] = ..., share: _Optional[float] = ..., mask: _Optional[_Union[Mask, _Mapping]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("name", "version", "digest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    digest: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., digest: _Optional[str] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("label", "probabilities", "labels", "predicted_labels", "problem_type")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_LABELS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_TYPE_FIELD_NUMBER: _ClassVar[int]
    label: str
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    labels: _containers.RepeatedScalarFieldContainer[str]
    predicted_labels: _containers.RepeatedScalarFieldContainer[str]
    problem_type: ProblemType
    def __init__(self, label: _Optional[str] = ..., probabilities: _Optional[_Iterable[float]] = ..., labels: _Optional[_Iterable[str]] = ..., predicted_labels: _Optional[_Iterable[str]] = ..., problem_type: _Optional[_Union[ProblemType, str]] = ...) -> None: ...

class ClassRule(_message.Message):
    __slots__ = ("class_name", "should_matter", "should_not_matter")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    SHOULD_MATTER_FIELD_NUMBER: _ClassVar[int]
    SHOULD_NOT_MATTER_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    should_matter: str
    should_not_matter: str
    def __init__(self, class_name: _Optional[str] = ..., should_matter: _Optional[str] = ..., should_not_matter: _Optional[str] = ...) -> None: ...

class ClassSpecification(_message.Message):
    __slots__ = ("task", "rules")
    TASK_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    task: str
    rules: _containers.RepeatedCompositeFieldContainer[ClassRule]
    def __init__(self, task: _Optional[str] = ..., rules: _Optional[_Iterable[_Union[ClassRule, _Mapping]]] = ...) -> None: ...

class TypedRule(_message.Message):
    __slots__ = ("class_name", "concept", "polarity", "noun_phrases")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    CONCEPT_FIELD_NUMBER: _ClassVar[int]
    POLARITY_FIELD_NUMBER: _ClassVar[int]
    NOUN_PHRASES_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    concept: str
    polarity: Polarity
    noun_phrases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, class_name: _Optional[str] = ..., concept: _Optional[str] = ..., polarity: _Optional[_Union[Polarity, str]] = ..., noun_phrases: _Optional[_Iterable[str]] = ...) -> None: ...

from plumbline.common.v1 import critique_pb2 as _critique_pb2
from plumbline.common.v1 import vision_pb2 as _vision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TextSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEXT_SOURCE_UNSPECIFIED: _ClassVar[TextSource]
    TEXT_SOURCE_WRITTEN: _ClassVar[TextSource]
    TEXT_SOURCE_COUNTED: _ClassVar[TextSource]

class GroundingState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUNDING_STATE_UNSPECIFIED: _ClassVar[GroundingState]
    GROUNDING_STATE_FOUND: _ClassVar[GroundingState]
    GROUNDING_STATE_ABSENT: _ClassVar[GroundingState]
    GROUNDING_STATE_FAILED: _ClassVar[GroundingState]
TEXT_SOURCE_UNSPECIFIED: TextSource
TEXT_SOURCE_WRITTEN: TextSource
TEXT_SOURCE_COUNTED: TextSource
GROUNDING_STATE_UNSPECIFIED: GroundingState
GROUNDING_STATE_FOUND: GroundingState
GROUNDING_STATE_ABSENT: GroundingState
GROUNDING_STATE_FAILED: GroundingState

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
    __slots__ = ("target_label", "text", "evidence", "image_count", "claims", "text_source")
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    TEXT_SOURCE_FIELD_NUMBER: _ClassVar[int]
    target_label: str
    text: str
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    image_count: int
    claims: _containers.RepeatedCompositeFieldContainer[Claim]
    text_source: TextSource
    def __init__(self, target_label: _Optional[str] = ..., text: _Optional[str] = ..., evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., image_count: _Optional[int] = ..., claims: _Optional[_Iterable[_Union[Claim, _Mapping]]] = ..., text_source: _Optional[_Union[TextSource, str]] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("text", "things", "image_ids", "segments")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    THINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    text: str
    things: _containers.RepeatedScalarFieldContainer[str]
    image_ids: _containers.RepeatedScalarFieldContainer[str]
    segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, text: _Optional[str] = ..., things: _Optional[_Iterable[str]] = ..., image_ids: _Optional[_Iterable[str]] = ..., segments: _Optional[_Iterable[str]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("thing", "image_ids", "mean_share", "shown_image_ids", "segments")
    THING_FIELD_NUMBER: _ClassVar[int]
    IMAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    MEAN_SHARE_FIELD_NUMBER: _ClassVar[int]
    SHOWN_IMAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    thing: str
    image_ids: _containers.RepeatedScalarFieldContainer[str]
    mean_share: float
    shown_image_ids: _containers.RepeatedScalarFieldContainer[str]
    segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, thing: _Optional[str] = ..., image_ids: _Optional[_Iterable[str]] = ..., mean_share: _Optional[float] = ..., shown_image_ids: _Optional[_Iterable[str]] = ..., segments: _Optional[_Iterable[str]] = ...) -> None: ...

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
    __slots__ = ("model", "specification", "images", "job_id", "mask_source", "rules")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    specification: _vision_pb2.ClassSpecification
    images: _containers.RepeatedCompositeFieldContainer[ExplainedImage]
    job_id: str
    mask_source: _vision_pb2.MaskSource
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., images: _Optional[_Iterable[_Union[ExplainedImage, _Mapping]]] = ..., job_id: _Optional[str] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ...) -> None: ...

class TranslateSpecificationResponse(_message.Message):
    __slots__ = ("critiques", "provenance")
    CRITIQUES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    critiques: _containers.RepeatedCompositeFieldContainer[_critique_pb2.Critique]
    provenance: _critique_pb2.Provenance
    def __init__(self, critiques: _Optional[_Iterable[_Union[_critique_pb2.Critique, _Mapping]]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

class ClassSentences(_message.Message):
    __slots__ = ("class_name", "text")
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    class_name: str
    text: str
    def __init__(self, class_name: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class CompileSpecificationRequest(_message.Message):
    __slots__ = ("task", "class_names", "sentences")
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    SENTENCES_FIELD_NUMBER: _ClassVar[int]
    task: str
    class_names: _containers.RepeatedScalarFieldContainer[str]
    sentences: _containers.RepeatedCompositeFieldContainer[ClassSentences]
    def __init__(self, task: _Optional[str] = ..., class_names: _Optional[_Iterable[str]] = ..., sentences: _Optional[_Iterable[_Union[ClassSentences, _Mapping]]] = ...) -> None: ...

class CompileSpecificationResponse(_message.Message):
    __slots__ = ("rules", "specification", "provenance")
    RULES_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    specification: _vision_pb2.ClassSpecification
    provenance: _critique_pb2.Provenance
    def __init__(self, rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

class GroundPhrasesRequest(_message.Message):
    __slots__ = ("images", "phrases")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Image]
    phrases: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, images: _Optional[_Iterable[_Union[_vision_pb2.Image, _Mapping]]] = ..., phrases: _Optional[_Iterable[str]] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("top_px", "left_px", "bottom_px", "right_px", "is_whole")
    TOP_PX_FIELD_NUMBER: _ClassVar[int]
    LEFT_PX_FIELD_NUMBER: _ClassVar[int]
    BOTTOM_PX_FIELD_NUMBER: _ClassVar[int]
    RIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    IS_WHOLE_FIELD_NUMBER: _ClassVar[int]
    top_px: int
    left_px: int
    bottom_px: int
    right_px: int
    is_whole: bool
    def __init__(self, top_px: _Optional[int] = ..., left_px: _Optional[int] = ..., bottom_px: _Optional[int] = ..., right_px: _Optional[int] = ..., is_whole: _Optional[bool] = ...) -> None: ...

class GroundedPhrase(_message.Message):
    __slots__ = ("image_id", "phrase", "state", "boxes", "mask", "failure")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PHRASE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BOXES_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    phrase: str
    state: GroundingState
    boxes: _containers.RepeatedCompositeFieldContainer[Box]
    mask: _vision_pb2.Mask
    failure: str
    def __init__(self, image_id: _Optional[str] = ..., phrase: _Optional[str] = ..., state: _Optional[_Union[GroundingState, str]] = ..., boxes: _Optional[_Iterable[_Union[Box, _Mapping]]] = ..., mask: _Optional[_Union[_vision_pb2.Mask, _Mapping]] = ..., failure: _Optional[str] = ...) -> None: ...

class GroundPhrasesResponse(_message.Message):
    __slots__ = ("phrases", "provenance")
    PHRASES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    phrases: _containers.RepeatedCompositeFieldContainer[GroundedPhrase]
    provenance: _critique_pb2.Provenance
    def __init__(self, phrases: _Optional[_Iterable[_Union[GroundedPhrase, _Mapping]]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

class ReplayCritiquesRequest(_message.Message):
    __slots__ = ("specification", "images", "critiques", "provenance", "mask_source", "rules", "model")
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    CRITIQUES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    specification: _vision_pb2.ClassSpecification
    images: _containers.RepeatedCompositeFieldContainer[ExplainedImage]
    critiques: _containers.RepeatedCompositeFieldContainer[_critique_pb2.Critique]
    provenance: _critique_pb2.Provenance
    mask_source: _vision_pb2.MaskSource
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    model: _vision_pb2.ModelVersion
    def __init__(self, specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., images: _Optional[_Iterable[_Union[ExplainedImage, _Mapping]]] = ..., critiques: _Optional[_Iterable[_Union[_critique_pb2.Critique, _Mapping]]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ...) -> None: ...

class ReplayedCritique(_message.Message):
    __slots__ = ("image_id", "is_same", "changed_segments", "critique")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IS_SAME_FIELD_NUMBER: _ClassVar[int]
    CHANGED_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    CRITIQUE_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    is_same: bool
    changed_segments: _containers.RepeatedScalarFieldContainer[int]
    critique: _critique_pb2.Critique
    def __init__(self, image_id: _Optional[str] = ..., is_same: _Optional[bool] = ..., changed_segments: _Optional[_Iterable[int]] = ..., critique: _Optional[_Union[_critique_pb2.Critique, _Mapping]] = ...) -> None: ...

class ReplayCritiquesResponse(_message.Message):
    __slots__ = ("critiques", "differences", "provenance")
    CRITIQUES_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    critiques: _containers.RepeatedCompositeFieldContainer[ReplayedCritique]
    differences: _containers.RepeatedScalarFieldContainer[str]
    provenance: _critique_pb2.Provenance
    def __init__(self, critiques: _Optional[_Iterable[_Union[ReplayedCritique, _Mapping]]] = ..., differences: _Optional[_Iterable[str]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from plumbline.common.v1 import critique_pb2 as _critique_pb2
from plumbline.common.v1 import vision_pb2 as _vision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_CRITIQUING: _ClassVar[JobState]
    JOB_STATE_AWAITING_REVIEW: _ClassVar[JobState]
    JOB_STATE_TRAINING: _ClassVar[JobState]
    JOB_STATE_EVALUATING: _ClassVar[JobState]
    JOB_STATE_PUBLISHED: _ClassVar[JobState]
    JOB_STATE_REJECTED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Loss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOSS_UNSPECIFIED: _ClassVar[Loss]
    LOSS_RRR: _ClassVar[Loss]
    LOSS_R4: _ClassVar[Loss]
    LOSS_MASK_OUT: _ClassVar[Loss]

class Selection(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SELECTION_UNSPECIFIED: _ClassVar[Selection]
    SELECTION_LOW_ENTROPY_PER_CLASS: _ClassVar[Selection]
    SELECTION_LOW_ENTROPY: _ClassVar[Selection]
    SELECTION_HIGH_ENTROPY: _ClassVar[Selection]
    SELECTION_RANDOM: _ClassVar[Selection]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_CRITIQUING: JobState
JOB_STATE_AWAITING_REVIEW: JobState
JOB_STATE_TRAINING: JobState
JOB_STATE_EVALUATING: JobState
JOB_STATE_PUBLISHED: JobState
JOB_STATE_REJECTED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
LOSS_UNSPECIFIED: Loss
LOSS_RRR: Loss
LOSS_R4: Loss
LOSS_MASK_OUT: Loss
SELECTION_UNSPECIFIED: Selection
SELECTION_LOW_ENTROPY_PER_CLASS: Selection
SELECTION_LOW_ENTROPY: Selection
SELECTION_HIGH_ENTROPY: Selection
SELECTION_RANDOM: Selection

class AlignmentOptions(_message.Message):
    __slots__ = ("images_per_class", "epochs", "seed", "loss", "selection")
    IMAGES_PER_CLASS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    images_per_class: int
    epochs: int
    seed: int
    loss: Loss
    selection: Selection
    def __init__(self, images_per_class: _Optional[int] = ..., epochs: _Optional[int] = ..., seed: _Optional[int] = ..., loss: _Optional[_Union[Loss, str]] = ..., selection: _Optional[_Union[Selection, str]] = ...) -> None: ...

class SubmitAlignmentRequest(_message.Message):
    __slots__ = ("idempotency_key", "model", "dataset_path", "specification", "options", "mask_source", "rules")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATASET_PATH_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    model: _vision_pb2.ModelVersion
    dataset_path: str
    specification: _vision_pb2.ClassSpecification
    options: AlignmentOptions
    mask_source: _vision_pb2.MaskSource
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    def __init__(self, idempotency_key: _Optional[str] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., dataset_path: _Optional[str] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., options: _Optional[_Union[AlignmentOptions, _Mapping]] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "unit", "loss")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    unit: str
    loss: float
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., loss: _Optional[float] = ...) -> None: ...

class Alignment(_message.Message):
    __slots__ = ("job_id", "state", "progress", "model", "published", "reason", "metrics_json", "created_at", "updated_at", "verdict_counts", "record_path", "specification", "mask_source", "rules", "options")
    class VerdictCountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PUBLISHED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_COUNTS_FIELD_NUMBER: _ClassVar[int]
    RECORD_PATH_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    state: JobState
    progress: Progress
    model: _vision_pb2.ModelVersion
    published: _vision_pb2.ModelVersion
    reason: str
    metrics_json: str
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    verdict_counts: _containers.ScalarMap[str, int]
    record_path: str
    specification: _vision_pb2.ClassSpecification
    mask_source: _vision_pb2.MaskSource
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    options: AlignmentOptions
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., published: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., reason: _Optional[str] = ..., metrics_json: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verdict_counts: _Optional[_Mapping[str, int]] = ..., record_path: _Optional[str] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ..., options: _Optional[_Union[AlignmentOptions, _Mapping]] = ...) -> None: ...

class SubmitAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class GetAlignmentRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class GetAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class ListAlignmentsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAlignmentsResponse(_message.Message):
    __slots__ = ("alignments", "next_page_token")
    ALIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    alignments: _containers.RepeatedCompositeFieldContainer[Alignment]
    next_page_token: str
    def __init__(self, alignments: _Optional[_Iterable[_Union[Alignment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchAlignmentRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class WatchAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class CancelAlignmentRequest(_message.Message):
    __slots__ = ("job_id", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CancelAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class ListCritiquesRequest(_message.Message):
    __slots__ = ("job_id", "page_size", "page_token")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    page_size: int
    page_token: str
    def __init__(self, job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class CritiquedImage(_message.Message):
    __slots__ = ("image", "critique", "provenance")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CRITIQUE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    image: _vision_pb2.Image
    critique: _critique_pb2.Critique
    provenance: _critique_pb2.Provenance
    def __init__(self, image: _Optional[_Union[_vision_pb2.Image, _Mapping]] = ..., critique: _Optional[_Union[_critique_pb2.Critique, _Mapping]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ...) -> None: ...

class ListCritiquesResponse(_message.Message):
    __slots__ = ("images", "next_page_token")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[CritiquedImage]
    next_page_token: str
    def __init__(self, images: _Optional[_Iterable[_Union[CritiquedImage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

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

class ReviewDecision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REVIEW_DECISION_UNSPECIFIED: _ClassVar[ReviewDecision]
    REVIEW_DECISION_ACCEPT: _ClassVar[ReviewDecision]
    REVIEW_DECISION_REJECT: _ClassVar[ReviewDecision]
    REVIEW_DECISION_EDIT: _ClassVar[ReviewDecision]

class PushOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PUSH_OUTCOME_UNSPECIFIED: _ClassVar[PushOutcome]
    PUSH_OUTCOME_TAKEN: _ClassVar[PushOutcome]
    PUSH_OUTCOME_ALREADY_THERE: _ClassVar[PushOutcome]
    PUSH_OUTCOME_SET_ASIDE: _ClassVar[PushOutcome]

class Priority(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRIORITY_UNSPECIFIED: _ClassVar[Priority]
    PRIORITY_NORMAL: _ClassVar[Priority]
    PRIORITY_URGENT: _ClassVar[Priority]
    PRIORITY_BATCH: _ClassVar[Priority]
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
REVIEW_DECISION_UNSPECIFIED: ReviewDecision
REVIEW_DECISION_ACCEPT: ReviewDecision
REVIEW_DECISION_REJECT: ReviewDecision
REVIEW_DECISION_EDIT: ReviewDecision
PUSH_OUTCOME_UNSPECIFIED: PushOutcome
PUSH_OUTCOME_TAKEN: PushOutcome
PUSH_OUTCOME_ALREADY_THERE: PushOutcome
PUSH_OUTCOME_SET_ASIDE: PushOutcome
PRIORITY_UNSPECIFIED: Priority
PRIORITY_NORMAL: Priority
PRIORITY_URGENT: Priority
PRIORITY_BATCH: Priority

class AcceptanceCriteria(_message.Message):
    __slots__ = ("max_accuracy_drop", "max_flipped_loss", "max_class_accuracy_drop", "min_class_accuracy", "min_swap_accuracy_gain", "max_flip_rate_rise", "min_reliance_drop")
    MAX_ACCURACY_DROP_FIELD_NUMBER: _ClassVar[int]
    MAX_FLIPPED_LOSS_FIELD_NUMBER: _ClassVar[int]
    MAX_CLASS_ACCURACY_DROP_FIELD_NUMBER: _ClassVar[int]
    MIN_CLASS_ACCURACY_FIELD_NUMBER: _ClassVar[int]
    MIN_SWAP_ACCURACY_GAIN_FIELD_NUMBER: _ClassVar[int]
    MAX_FLIP_RATE_RISE_FIELD_NUMBER: _ClassVar[int]
    MIN_RELIANCE_DROP_FIELD_NUMBER: _ClassVar[int]
    max_accuracy_drop: float
    max_flipped_loss: float
    max_class_accuracy_drop: float
    min_class_accuracy: float
    min_swap_accuracy_gain: float
    max_flip_rate_rise: float
    min_reliance_drop: float
    def __init__(self, max_accuracy_drop: _Optional[float] = ..., max_flipped_loss: _Optional[float] = ..., max_class_accuracy_drop: _Optional[float] = ..., min_class_accuracy: _Optional[float] = ..., min_swap_accuracy_gain: _Optional[float] = ..., max_flip_rate_rise: _Optional[float] = ..., min_reliance_drop: _Optional[float] = ...) -> None: ...

class AlignmentOptions(_message.Message):
    __slots__ = ("images_per_class", "epochs", "seed", "loss", "selection", "criteria")
    IMAGES_PER_CLASS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SELECTION_FIELD_NUMBER: _ClassVar[int]
    CRITERIA_FIELD_NUMBER: _ClassVar[int]
    images_per_class: int
    epochs: int
    seed: int
    loss: Loss
    selection: Selection
    criteria: AcceptanceCriteria
    def __init__(self, images_per_class: _Optional[int] = ..., epochs: _Optional[int] = ..., seed: _Optional[int] = ..., loss: _Optional[_Union[Loss, str]] = ..., selection: _Optional[_Union[Selection, str]] = ..., criteria: _Optional[_Union[AcceptanceCriteria, _Mapping]] = ...) -> None: ...

class SubmitAlignmentRequest(_message.Message):
    __slots__ = ("idempotency_key", "model", "dataset_path", "specification", "options", "mask_source", "rules", "review", "submitter", "priority")
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATASET_PATH_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    MASK_SOURCE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    idempotency_key: str
    model: _vision_pb2.ModelVersion
    dataset_path: str
    specification: _vision_pb2.ClassSpecification
    options: AlignmentOptions
    mask_source: _vision_pb2.MaskSource
    rules: _containers.RepeatedCompositeFieldContainer[_vision_pb2.TypedRule]
    review: bool
    submitter: str
    priority: Priority
    def __init__(self, idempotency_key: _Optional[str] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., dataset_path: _Optional[str] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., options: _Optional[_Union[AlignmentOptions, _Mapping]] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ..., review: _Optional[bool] = ..., submitter: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "unit", "loss", "eta_s")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    ETA_S_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    unit: str
    loss: float
    eta_s: float
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., loss: _Optional[float] = ..., eta_s: _Optional[float] = ...) -> None: ...

class Alignment(_message.Message):
    __slots__ = ("job_id", "state", "progress", "model", "published", "reason", "metrics_json", "created_at", "updated_at", "verdict_counts", "record_path", "specification", "mask_source", "rules", "options", "review", "submitter", "priority", "retry_of")
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
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    RETRY_OF_FIELD_NUMBER: _ClassVar[int]
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
    review: bool
    submitter: str
    priority: Priority
    retry_of: str
    def __init__(self, job_id: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., published: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., reason: _Optional[str] = ..., metrics_json: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verdict_counts: _Optional[_Mapping[str, int]] = ..., record_path: _Optional[str] = ..., specification: _Optional[_Union[_vision_pb2.ClassSpecification, _Mapping]] = ..., mask_source: _Optional[_Union[_vision_pb2.MaskSource, str]] = ..., rules: _Optional[_Iterable[_Union[_vision_pb2.TypedRule, _Mapping]]] = ..., options: _Optional[_Union[AlignmentOptions, _Mapping]] = ..., review: _Optional[bool] = ..., submitter: _Optional[str] = ..., priority: _Optional[_Union[Priority, str]] = ..., retry_of: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("page_size", "page_token", "states", "submitter")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    SUBMITTER_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    submitter: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., submitter: _Optional[str] = ...) -> None: ...

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

class RetryAlignmentRequest(_message.Message):
    __slots__ = ("job_id", "idempotency_key")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    idempotency_key: str
    def __init__(self, job_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RetryAlignmentResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

class RecoverAlignmentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RecoverAlignmentsResponse(_message.Message):
    __slots__ = ("recovered_count",)
    RECOVERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    recovered_count: int
    def __init__(self, recovered_count: _Optional[int] = ...) -> None: ...

class ListCritiquesRequest(_message.Message):
    __slots__ = ("job_id", "page_size", "page_token", "without_pictures")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_PICTURES_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    page_size: int
    page_token: str
    without_pictures: bool
    def __init__(self, job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., without_pictures: _Optional[bool] = ...) -> None: ...

class PictureReview(_message.Message):
    __slots__ = ("decision", "reviewer", "reviewed_at", "reason", "edit")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    REVIEWED_AT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    decision: ReviewDecision
    reviewer: str
    reviewed_at: _timestamp_pb2.Timestamp
    reason: str
    edit: _critique_pb2.Critique
    def __init__(self, decision: _Optional[_Union[ReviewDecision, str]] = ..., reviewer: _Optional[str] = ..., reviewed_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., reason: _Optional[str] = ..., edit: _Optional[_Union[_critique_pb2.Critique, _Mapping]] = ...) -> None: ...

class CritiquedImage(_message.Message):
    __slots__ = ("image", "critique", "provenance", "review")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    CRITIQUE_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    image: _vision_pb2.Image
    critique: _critique_pb2.Critique
    provenance: _critique_pb2.Provenance
    review: PictureReview
    def __init__(self, image: _Optional[_Union[_vision_pb2.Image, _Mapping]] = ..., critique: _Optional[_Union[_critique_pb2.Critique, _Mapping]] = ..., provenance: _Optional[_Union[_critique_pb2.Provenance, _Mapping]] = ..., review: _Optional[_Union[PictureReview, _Mapping]] = ...) -> None: ...

class ListCritiquesResponse(_message.Message):
    __slots__ = ("images", "next_page_token")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[CritiquedImage]
    next_page_token: str
    def __init__(self, images: _Optional[_Iterable[_Union[CritiquedImage, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListPicturesRequest(_message.Message):
    __slots__ = ("job_id", "page_size", "page_token")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    page_size: int
    page_token: str
    def __init__(self, job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ChosenPicture(_message.Message):
    __slots__ = ("image_id", "image_digest", "true_label", "height_px", "width_px", "is_critiqued")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TRUE_LABEL_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    IS_CRITIQUED_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    image_digest: str
    true_label: str
    height_px: int
    width_px: int
    is_critiqued: bool
    def __init__(self, image_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., true_label: _Optional[str] = ..., height_px: _Optional[int] = ..., width_px: _Optional[int] = ..., is_critiqued: _Optional[bool] = ...) -> None: ...

class ListPicturesResponse(_message.Message):
    __slots__ = ("pictures", "next_page_token")
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    pictures: _containers.RepeatedCompositeFieldContainer[ChosenPicture]
    next_page_token: str
    def __init__(self, pictures: _Optional[_Iterable[_Union[ChosenPicture, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class PushCritiquesRequest(_message.Message):
    __slots__ = ("batch_json",)
    BATCH_JSON_FIELD_NUMBER: _ClassVar[int]
    batch_json: str
    def __init__(self, batch_json: _Optional[str] = ...) -> None: ...

class PushedCritique(_message.Message):
    __slots__ = ("image_id", "image_digest", "outcome", "reason")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    image_digest: str
    outcome: PushOutcome
    reason: str
    def __init__(self, image_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., outcome: _Optional[_Union[PushOutcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class PushCritiquesResponse(_message.Message):
    __slots__ = ("critiques",)
    CRITIQUES_FIELD_NUMBER: _ClassVar[int]
    critiques: _containers.RepeatedCompositeFieldContainer[PushedCritique]
    def __init__(self, critiques: _Optional[_Iterable[_Union[PushedCritique, _Mapping]]] = ...) -> None: ...

class PictureDecision(_message.Message):
    __slots__ = ("image_digest", "decision", "reason", "edit")
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    image_digest: str
    decision: ReviewDecision
    reason: str
    edit: _critique_pb2.Critique
    def __init__(self, image_digest: _Optional[str] = ..., decision: _Optional[_Union[ReviewDecision, str]] = ..., reason: _Optional[str] = ..., edit: _Optional[_Union[_critique_pb2.Critique, _Mapping]] = ...) -> None: ...

class ReviewCritiquesRequest(_message.Message):
    __slots__ = ("job_id", "reviewer", "decisions")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reviewer: str
    decisions: _containers.RepeatedCompositeFieldContainer[PictureDecision]
    def __init__(self, job_id: _Optional[str] = ..., reviewer: _Optional[str] = ..., decisions: _Optional[_Iterable[_Union[PictureDecision, _Mapping]]] = ...) -> None: ...

class ReviewCritiquesResponse(_message.Message):
    __slots__ = ("decided_count", "open_count")
    DECIDED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OPEN_COUNT_FIELD_NUMBER: _ClassVar[int]
    decided_count: int
    open_count: int
    def __init__(self, decided_count: _Optional[int] = ..., open_count: _Optional[int] = ...) -> None: ...

class FinishReviewRequest(_message.Message):
    __slots__ = ("job_id", "reviewer", "accept_rest")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REVIEWER_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_REST_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reviewer: str
    accept_rest: bool
    def __init__(self, job_id: _Optional[str] = ..., reviewer: _Optional[str] = ..., accept_rest: _Optional[bool] = ...) -> None: ...

class FinishReviewResponse(_message.Message):
    __slots__ = ("alignment",)
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    alignment: Alignment
    def __init__(self, alignment: _Optional[_Union[Alignment, _Mapping]] = ...) -> None: ...

import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from plumbline.common.v1 import vision_pb2 as _vision_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as _trainer_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuditAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_ACTION_UNSPECIFIED: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_SUBMITTED: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_PUBLISHED: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_REJECTED: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_FAILED: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_CANCELLED: _ClassVar[AuditAction]
    AUDIT_ACTION_MODEL_PUBLISHED: _ClassVar[AuditAction]
    AUDIT_ACTION_MODEL_ROLLED_BACK: _ClassVar[AuditAction]
    AUDIT_ACTION_MODEL_FOUND_LIVE: _ClassVar[AuditAction]
    AUDIT_ACTION_PUBLICATION_UNDONE: _ClassVar[AuditAction]
    AUDIT_ACTION_JOB_REVIEWED: _ClassVar[AuditAction]
    AUDIT_ACTION_SHADOW_SET: _ClassVar[AuditAction]
    AUDIT_ACTION_SHADOW_ENDED: _ClassVar[AuditAction]

class AuditFaultKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUDIT_FAULT_KIND_UNSPECIFIED: _ClassVar[AuditFaultKind]
    AUDIT_FAULT_KIND_MISSING: _ClassVar[AuditFaultKind]
    AUDIT_FAULT_KIND_CHANGED: _ClassVar[AuditFaultKind]
    AUDIT_FAULT_KIND_OUT_OF_ORDER: _ClassVar[AuditFaultKind]
    AUDIT_FAULT_KIND_UNLINKED: _ClassVar[AuditFaultKind]
AUDIT_ACTION_UNSPECIFIED: AuditAction
AUDIT_ACTION_JOB_SUBMITTED: AuditAction
AUDIT_ACTION_JOB_PUBLISHED: AuditAction
AUDIT_ACTION_JOB_REJECTED: AuditAction
AUDIT_ACTION_JOB_FAILED: AuditAction
AUDIT_ACTION_JOB_CANCELLED: AuditAction
AUDIT_ACTION_MODEL_PUBLISHED: AuditAction
AUDIT_ACTION_MODEL_ROLLED_BACK: AuditAction
AUDIT_ACTION_MODEL_FOUND_LIVE: AuditAction
AUDIT_ACTION_PUBLICATION_UNDONE: AuditAction
AUDIT_ACTION_JOB_REVIEWED: AuditAction
AUDIT_ACTION_SHADOW_SET: AuditAction
AUDIT_ACTION_SHADOW_ENDED: AuditAction
AUDIT_FAULT_KIND_UNSPECIFIED: AuditFaultKind
AUDIT_FAULT_KIND_MISSING: AuditFaultKind
AUDIT_FAULT_KIND_CHANGED: AuditFaultKind
AUDIT_FAULT_KIND_OUT_OF_ORDER: AuditFaultKind
AUDIT_FAULT_KIND_UNLINKED: AuditFaultKind

class Lineage(_message.Message):
    __slots__ = ("model_digest", "parent_digest", "specification_digest", "critiques_digest", "data_digest", "code_version")
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PARENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    SPECIFICATION_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CRITIQUES_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DATA_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    model_digest: str
    parent_digest: str
    specification_digest: str
    critiques_digest: str
    data_digest: str
    code_version: str
    def __init__(self, model_digest: _Optional[str] = ..., parent_digest: _Optional[str] = ..., specification_digest: _Optional[str] = ..., critiques_digest: _Optional[str] = ..., data_digest: _Optional[str] = ..., code_version: _Optional[str] = ...) -> None: ...

class AuditEvent(_message.Message):
    __slots__ = ("number", "at", "actor", "caller", "action", "job_id", "model", "repeats_version", "reason", "lineage", "previous_hash", "hash")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPEATS_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LINEAGE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_HASH_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: _timestamp_pb2.Timestamp
    actor: str
    caller: str
    action: AuditAction
    job_id: str
    model: _vision_pb2.ModelVersion
    repeats_version: int
    reason: str
    lineage: Lineage
    previous_hash: str
    hash: str
    def __init__(self, number: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., caller: _Optional[str] = ..., action: _Optional[_Union[AuditAction, str]] = ..., job_id: _Optional[str] = ..., model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., repeats_version: _Optional[int] = ..., reason: _Optional[str] = ..., lineage: _Optional[_Union[Lineage, _Mapping]] = ..., previous_hash: _Optional[str] = ..., hash: _Optional[str] = ...) -> None: ...

class ListAuditEventsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "job_id", "model_name")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    job_id: str
    model_name: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., job_id: _Optional[str] = ..., model_name: _Optional[str] = ...) -> None: ...

class ListAuditEventsResponse(_message.Message):
    __slots__ = ("events", "next_page_token")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[AuditEvent]
    next_page_token: str
    def __init__(self, events: _Optional[_Iterable[_Union[AuditEvent, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class VerifyAuditRequest(_message.Message):
    __slots__ = ("kept_number", "kept_hash")
    KEPT_NUMBER_FIELD_NUMBER: _ClassVar[int]
    KEPT_HASH_FIELD_NUMBER: _ClassVar[int]
    kept_number: int
    kept_hash: str
    def __init__(self, kept_number: _Optional[int] = ..., kept_hash: _Optional[str] = ...) -> None: ...

class AuditFault(_message.Message):
    __slots__ = ("number", "kind", "description")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    number: int
    kind: AuditFaultKind
    description: str
    def __init__(self, number: _Optional[int] = ..., kind: _Optional[_Union[AuditFaultKind, str]] = ..., description: _Optional[str] = ...) -> None: ...

class VerifyAuditResponse(_message.Message):
    __slots__ = ("number", "hash", "fault")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    FAULT_FIELD_NUMBER: _ClassVar[int]
    number: int
    hash: str
    fault: AuditFault
    def __init__(self, number: _Optional[int] = ..., hash: _Optional[str] = ..., fault: _Optional[_Union[AuditFault, _Mapping]] = ...) -> None: ...

class FindLiveVersionRequest(_message.Message):
    __slots__ = ("model_name", "at")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    at: _timestamp_pb2.Timestamp
    def __init__(self, model_name: _Optional[str] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FindLiveVersionResponse(_message.Message):
    __slots__ = ("event", "until", "alignment")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    ALIGNMENT_FIELD_NUMBER: _ClassVar[int]
    event: AuditEvent
    until: _timestamp_pb2.Timestamp
    alignment: _trainer_service_pb2.Alignment
    def __init__(self, event: _Optional[_Union[AuditEvent, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., alignment: _Optional[_Union[_trainer_service_pb2.Alignment, _Mapping]] = ...) -> None: ...

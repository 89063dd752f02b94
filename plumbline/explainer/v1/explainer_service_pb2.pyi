import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from plumbline.common.v1 import vision_pb2 as _vision_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttributionMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ATTRIBUTION_METHOD_UNSPECIFIED: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_DEEP_LIFT_SHAP: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_INTEGRATED_GRADIENTS: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_INPUT_X_GRADIENT: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_SMOOTH_GRAD: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_GRAD_CAM: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_LAYER_CAM: _ClassVar[AttributionMethod]
    ATTRIBUTION_METHOD_OCCLUSION: _ClassVar[AttributionMethod]
ATTRIBUTION_METHOD_UNSPECIFIED: AttributionMethod
ATTRIBUTION_METHOD_DEEP_LIFT_SHAP: AttributionMethod
ATTRIBUTION_METHOD_INTEGRATED_GRADIENTS: AttributionMethod
ATTRIBUTION_METHOD_INPUT_X_GRADIENT: AttributionMethod
ATTRIBUTION_METHOD_SMOOTH_GRAD: AttributionMethod
ATTRIBUTION_METHOD_GRAD_CAM: AttributionMethod
ATTRIBUTION_METHOD_LAYER_CAM: AttributionMethod
ATTRIBUTION_METHOD_OCCLUSION: AttributionMethod

class PredictRequest(_message.Message):
    __slots__ = ("model", "images")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    images: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Image]
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., images: _Optional[_Iterable[_Union[_vision_pb2.Image, _Mapping]]] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("model", "predictions")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    predictions: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Prediction]
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., predictions: _Optional[_Iterable[_Union[_vision_pb2.Prediction, _Mapping]]] = ...) -> None: ...

class SegmentationOptions(_message.Message):
    __slots__ = ("max_segments", "kept_evidence")
    MAX_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    KEPT_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    max_segments: int
    kept_evidence: float
    def __init__(self, max_segments: _Optional[int] = ..., kept_evidence: _Optional[float] = ...) -> None: ...

class ExplainRequest(_message.Message):
    __slots__ = ("model", "images", "target_label", "method", "segmentation", "with_overlay", "contrast_label", "with_faithfulness", "without_segments", "masks")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    WITH_OVERLAY_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_LABEL_FIELD_NUMBER: _ClassVar[int]
    WITH_FAITHFULNESS_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    MASKS_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    images: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Image]
    target_label: str
    method: AttributionMethod
    segmentation: SegmentationOptions
    with_overlay: bool
    contrast_label: str
    with_faithfulness: bool
    without_segments: bool
    masks: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Mask]
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., images: _Optional[_Iterable[_Union[_vision_pb2.Image, _Mapping]]] = ..., target_label: _Optional[str] = ..., method: _Optional[_Union[AttributionMethod, str]] = ..., segmentation: _Optional[_Union[SegmentationOptions, _Mapping]] = ..., with_overlay: _Optional[bool] = ..., contrast_label: _Optional[str] = ..., with_faithfulness: _Optional[bool] = ..., without_segments: _Optional[bool] = ..., masks: _Optional[_Iterable[_Union[_vision_pb2.Mask, _Mapping]]] = ...) -> None: ...

class Localization(_message.Message):
    __slots__ = ("relevance_mass", "relevance_rank", "pointing_hit", "area")
    RELEVANCE_MASS_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_RANK_FIELD_NUMBER: _ClassVar[int]
    POINTING_HIT_FIELD_NUMBER: _ClassVar[int]
    AREA_FIELD_NUMBER: _ClassVar[int]
    relevance_mass: float
    relevance_rank: float
    pointing_hit: bool
    area: float
    def __init__(self, relevance_mass: _Optional[float] = ..., relevance_rank: _Optional[float] = ..., pointing_hit: _Optional[bool] = ..., area: _Optional[float] = ...) -> None: ...

class Faithfulness(_message.Message):
    __slots__ = ("deletion_auc", "insertion_auc", "steps")
    DELETION_AUC_FIELD_NUMBER: _ClassVar[int]
    INSERTION_AUC_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    deletion_auc: float
    insertion_auc: float
    steps: int
    def __init__(self, deletion_auc: _Optional[float] = ..., insertion_auc: _Optional[float] = ..., steps: _Optional[int] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("image_id", "image_digest", "prediction", "target_label", "attribution", "segments", "completeness_delta", "overlay_png", "contrast_label", "faithfulness", "localization")
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    TARGET_LABEL_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    COMPLETENESS_DELTA_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_PNG_FIELD_NUMBER: _ClassVar[int]
    CONTRAST_LABEL_FIELD_NUMBER: _ClassVar[int]
    FAITHFULNESS_FIELD_NUMBER: _ClassVar[int]
    LOCALIZATION_FIELD_NUMBER: _ClassVar[int]
    image_id: str
    image_digest: str
    prediction: _vision_pb2.Prediction
    target_label: str
    attribution: _vision_pb2.Tensor
    segments: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Segment]
    completeness_delta: float
    overlay_png: bytes
    contrast_label: str
    faithfulness: Faithfulness
    localization: Localization
    def __init__(self, image_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., prediction: _Optional[_Union[_vision_pb2.Prediction, _Mapping]] = ..., target_label: _Optional[str] = ..., attribution: _Optional[_Union[_vision_pb2.Tensor, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[_vision_pb2.Segment, _Mapping]]] = ..., completeness_delta: _Optional[float] = ..., overlay_png: _Optional[bytes] = ..., contrast_label: _Optional[str] = ..., faithfulness: _Optional[_Union[Faithfulness, _Mapping]] = ..., localization: _Optional[_Union[Localization, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("model", "explanations", "method", "method_parameters_json", "segmentation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPLANATIONS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    METHOD_PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    SEGMENTATION_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    explanations: _containers.RepeatedCompositeFieldContainer[Explanation]
    method: AttributionMethod
    method_parameters_json: str
    segmentation: SegmentationOptions
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., explanations: _Optional[_Iterable[_Union[Explanation, _Mapping]]] = ..., method: _Optional[_Union[AttributionMethod, str]] = ..., method_parameters_json: _Optional[str] = ..., segmentation: _Optional[_Union[SegmentationOptions, _Mapping]] = ...) -> None: ...

class ExplainBatchRequest(_message.Message):
    __slots__ = ("options", "image")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    options: ExplainRequest
    image: _vision_pb2.Image
    def __init__(self, options: _Optional[_Union[ExplainRequest, _Mapping]] = ..., image: _Optional[_Union[_vision_pb2.Image, _Mapping]] = ...) -> None: ...

class ExplainBatchResponse(_message.Message):
    __slots__ = ("options", "picture")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    options: ExplainResponse
    picture: PictureOutcome
    def __init__(self, options: _Optional[_Union[ExplainResponse, _Mapping]] = ..., picture: _Optional[_Union[PictureOutcome, _Mapping]] = ...) -> None: ...

class PictureOutcome(_message.Message):
    __slots__ = ("index", "image_id", "image_digest", "explanation", "error")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    index: int
    image_id: str
    image_digest: str
    explanation: Explanation
    error: PictureError
    def __init__(self, index: _Optional[int] = ..., image_id: _Optional[str] = ..., image_digest: _Optional[str] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ..., error: _Optional[_Union[PictureError, _Mapping]] = ...) -> None: ...

class PictureError(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("options", "size_bytes", "image_id", "frame")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    options: ExplainRequest
    size_bytes: int
    image_id: str
    frame: int
    def __init__(self, options: _Optional[_Union[ExplainRequest, _Mapping]] = ..., size_bytes: _Optional[int] = ..., image_id: _Optional[str] = ..., frame: _Optional[int] = ...) -> None: ...

class ExplainUploadRequest(_message.Message):
    __slots__ = ("upload", "piece")
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    PIECE_FIELD_NUMBER: _ClassVar[int]
    upload: Upload
    piece: bytes
    def __init__(self, upload: _Optional[_Union[Upload, _Mapping]] = ..., piece: _Optional[bytes] = ...) -> None: ...

class ExplainUploadResponse(_message.Message):
    __slots__ = ("explained", "attribution_piece", "overlay_piece")
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTION_PIECE_FIELD_NUMBER: _ClassVar[int]
    OVERLAY_PIECE_FIELD_NUMBER: _ClassVar[int]
    explained: ExplainResponse
    attribution_piece: bytes
    overlay_piece: bytes
    def __init__(self, explained: _Optional[_Union[ExplainResponse, _Mapping]] = ..., attribution_piece: _Optional[bytes] = ..., overlay_piece: _Optional[bytes] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("model", "is_champion", "is_ready", "labels", "provenance_json", "repeats_version", "is_shadow", "as_shadow", "problem_type")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    IS_CHAMPION_FIELD_NUMBER: _ClassVar[int]
    IS_READY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_JSON_FIELD_NUMBER: _ClassVar[int]
    REPEATS_VERSION_FIELD_NUMBER: _ClassVar[int]
    IS_SHADOW_FIELD_NUMBER: _ClassVar[int]
    AS_SHADOW_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_TYPE_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    is_champion: bool
    is_ready: bool
    labels: _containers.RepeatedScalarFieldContainer[str]
    provenance_json: str
    repeats_version: int
    is_shadow: bool
    as_shadow: bool
    problem_type: _vision_pb2.ProblemType
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., is_champion: _Optional[bool] = ..., is_ready: _Optional[bool] = ..., labels: _Optional[_Iterable[str]] = ..., provenance_json: _Optional[str] = ..., repeats_version: _Optional[int] = ..., is_shadow: _Optional[bool] = ..., as_shadow: _Optional[bool] = ..., problem_type: _Optional[_Union[_vision_pb2.ProblemType, str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    def __init__(self, models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ...) -> None: ...

class PublishModelRequest(_message.Message):
    __slots__ = ("name", "bundle_path", "expected_champion_version", "idempotency_key", "as_shadow")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PATH_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    AS_SHADOW_FIELD_NUMBER: _ClassVar[int]
    name: str
    bundle_path: str
    expected_champion_version: int
    idempotency_key: str
    as_shadow: bool
    def __init__(self, name: _Optional[str] = ..., bundle_path: _Optional[str] = ..., expected_champion_version: _Optional[int] = ..., idempotency_key: _Optional[str] = ..., as_shadow: _Optional[bool] = ...) -> None: ...

class PublishModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ...) -> None: ...

class ImportModelRequest(_message.Message):
    __slots__ = ("name", "folder_path", "pictures", "expected_champion_version", "idempotency_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FOLDER_PATH_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    folder_path: str
    pictures: _containers.RepeatedCompositeFieldContainer[_vision_pb2.Image]
    expected_champion_version: int
    idempotency_key: str
    def __init__(self, name: _Optional[str] = ..., folder_path: _Optional[str] = ..., pictures: _Optional[_Iterable[_Union[_vision_pb2.Image, _Mapping]]] = ..., expected_champion_version: _Optional[int] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class GoldenRequest(_message.Message):
    __slots__ = ("picture_count", "largest_difference", "tolerance")
    PICTURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LARGEST_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    picture_count: int
    largest_difference: float
    tolerance: float
    def __init__(self, picture_count: _Optional[int] = ..., largest_difference: _Optional[float] = ..., tolerance: _Optional[float] = ...) -> None: ...

class ParameterRandomisation(_message.Message):
    __slots__ = ("method", "rank_correlation", "bound", "picture_count")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    RANK_CORRELATION_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    PICTURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    method: AttributionMethod
    rank_correlation: float
    bound: float
    picture_count: int
    def __init__(self, method: _Optional[_Union[AttributionMethod, str]] = ..., rank_correlation: _Optional[float] = ..., bound: _Optional[float] = ..., picture_count: _Optional[int] = ...) -> None: ...

class ImportModelResponse(_message.Message):
    __slots__ = ("model", "bundle_path", "golden_request", "parameter_randomisation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_PATH_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_RANDOMISATION_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    bundle_path: str
    golden_request: GoldenRequest
    parameter_randomisation: ParameterRandomisation
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., bundle_path: _Optional[str] = ..., golden_request: _Optional[_Union[GoldenRequest, _Mapping]] = ..., parameter_randomisation: _Optional[_Union[ParameterRandomisation, _Mapping]] = ...) -> None: ...

class RollBackModelRequest(_message.Message):
    __slots__ = ("name", "version", "expected_champion_version", "reason", "idempotency_key")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    expected_champion_version: int
    reason: str
    idempotency_key: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ..., expected_champion_version: _Optional[int] = ..., reason: _Optional[str] = ..., idempotency_key: _Optional[str] = ...) -> None: ...

class RollBackModelResponse(_message.Message):
    __slots__ = ("model", "repeats_version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    REPEATS_VERSION_FIELD_NUMBER: _ClassVar[int]
    model: _vision_pb2.ModelVersion
    repeats_version: int
    def __init__(self, model: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., repeats_version: _Optional[int] = ...) -> None: ...

class SetShadowRequest(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: int
    def __init__(self, name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class SetShadowResponse(_message.Message):
    __slots__ = ("shadow",)
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    shadow: _vision_pb2.ModelVersion
    def __init__(self, shadow: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ...) -> None: ...

class GetShadowRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetShadowResponse(_message.Message):
    __slots__ = ("shadow", "champion_version", "shadow_version", "since", "picture_count", "agreement", "mean_difference", "labels", "confusion", "failed_count", "dropped_count", "share")
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    CHAMPION_VERSION_FIELD_NUMBER: _ClassVar[int]
    SHADOW_VERSION_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    PICTURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    MEAN_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    FAILED_COUNT_FIELD_NUMBER: _ClassVar[int]
    DROPPED_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    shadow: _vision_pb2.ModelVersion
    champion_version: int
    shadow_version: int
    since: _timestamp_pb2.Timestamp
    picture_count: int
    agreement: float
    mean_difference: float
    labels: _containers.RepeatedScalarFieldContainer[str]
    confusion: _containers.RepeatedScalarFieldContainer[int]
    failed_count: int
    dropped_count: int
    share: float
    def __init__(self, shadow: _Optional[_Union[_vision_pb2.ModelVersion, _Mapping]] = ..., champion_version: _Optional[int] = ..., shadow_version: _Optional[int] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., picture_count: _Optional[int] = ..., agreement: _Optional[float] = ..., mean_difference: _Optional[float] = ..., labels: _Optional[_Iterable[str]] = ..., confusion: _Optional[_Iterable[int]] = ..., failed_count: _Optional[int] = ..., dropped_count: _Optional[int] = ..., share: _Optional[float] = ...) -> None: ...

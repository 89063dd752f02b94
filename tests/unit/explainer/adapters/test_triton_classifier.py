"""What Triton's failures mean to a caller."""

import pytest
from tritonclient.utils import InferenceServerException

from services.common.runtime.errors import (
    DeadlineExceeded,
    InvalidInput,
    ServiceError,
    Unavailable,
    Unsupported,
)
from services.explainer.adapters.triton_classifier import _translate
from services.explainer.triton import tensors


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("NOT_FOUND", "Request for unknown model: 'net' version 1 is not found", Unavailable),
        ("UNAVAILABLE", "failed to connect to all addresses", Unavailable),
        ("CANCELLED", "the server shuts down", Unavailable),
        ("INTERNAL", "Stub process 'net_0_0' is not healthy.", Unavailable),
        ("DEADLINE_EXCEEDED", "Deadline Exceeded", DeadlineExceeded),
        ("UNIMPLEMENTED", "DEEP_LIFT_SHAP failed on this model", Unsupported),
    ],
)
def test_failure_that_is_expected_has_its_kind(status, message, kind):
    error = InferenceServerException(message, f"StatusCode.{status}")
    assert type(_translate(error, "net version 1")) is kind


def test_method_that_does_not_go_with_the_model_is_the_callers_fault_at_method():
    message = f"{tensors.UNFIT}GRAD_CAM: no grid; methods that fit: OCCLUSION"
    error = _translate(InferenceServerException(message, "StatusCode.INVALID_ARGUMENT"), "net version 1")
    assert isinstance(error, InvalidInput)
    assert (error.field, error.description) == ("method", "GRAD_CAM: no grid; methods that fit: OCCLUSION")


@pytest.mark.parametrize("status", ["INTERNAL", "INVALID_ARGUMENT", "UNKNOWN"])
def test_fault_over_there_is_a_bug_and_no_outage(status):
    error = InferenceServerException("unexpected shape for input 'PIXEL_VALUES'", f"StatusCode.{status}")
    assert not isinstance(_translate(error, "net version 1"), ServiceError)

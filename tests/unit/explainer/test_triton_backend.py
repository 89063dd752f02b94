"""What Triton's Python backend is answered. Bundle and net are real, Triton's module is not: it exists inside Triton alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from services.explainer.triton import tensors
from services.explainer.triton.backend import TritonPythonModel
from services.explainer.triton.definition import BUNDLE
from tests.unit.explainer.made_up import write_bundle


@dataclass
class Tensor:
    name: str
    values: np.ndarray

    def as_numpy(self) -> np.ndarray:
        return self.values


@dataclass
class TritonError:
    message: str
    code: str
    CANCELLED = "CANCELLED"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    """Asks for the logits of pictures; keeps what it is answered."""

    pixel_values: np.ndarray
    is_left: bool = False
    answers: list[Response] = field(default_factory=list)

    def is_cancelled(self) -> bool:
        return self.is_left

    def requested_output_names(self) -> list[str]:
        return [tensors.LOGITS]

    def get_response_sender(self) -> SimpleNamespace:
        return SimpleNamespace(send=lambda response, flags: self.answers.append(response))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonPythonModel:
    module = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=TritonError,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request.pixel_values),
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=1,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)
    write_bundle(tmp_path / "bundle")
    config = {"parameters": {BUNDLE: {"string_value": str(tmp_path / "bundle")}}}
    model = TritonPythonModel()
    model.initialize({"model_instance_kind": "CPU", "model_config": json.dumps(config)})
    return model


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, 1, 6, 6)).astype(np.float32)


def test_requests_of_one_batch_get_each_its_own_rows(model):
    requests = [Request(pictures(count)) for count in (1, 3, 2)]
    model.execute(requests)
    alone = [Request(request.pixel_values) for request in requests]
    for request in alone:
        model.execute([request])
    for together, by_itself in zip(requests, alone, strict=True):
        (answer,), (expected,) = together.answers, by_itself.answers
        np.testing.assert_allclose(answer.output_tensors[0].values, expected.output_tensors[0].values, atol=1e-6)
        assert answer.output_tensors[0].values.shape == (len(together.pixel_values), 2)


def test_request_whose_caller_left_is_not_computed_and_keeps_no_other_from_being_answered(model, monkeypatch):
    computed: list[int] = []
    forward = model._bundle.model.forward
    monkeypatch.setattr(
        model._bundle.model,
        "forward",
        lambda pixel_values: (computed.append(len(pixel_values)), forward(pixel_values=pixel_values))[1],
    )
    left, stays = Request(pictures(5), is_left=True), Request(pictures(2))
    model.execute([left, stays])
    assert computed == [2]
    assert [answer.error.code for answer in left.answers] == ["CANCELLED"]
    assert [answer.error for answer in stays.answers] == [None]


def test_batch_that_all_callers_left_is_not_computed(model):
    left = Request(pictures(5), is_left=True)
    model.execute([left])
    assert [answer.error.code for answer in left.answers] == ["CANCELLED"]

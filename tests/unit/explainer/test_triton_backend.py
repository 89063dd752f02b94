"""What Triton's Python backend is answered. Bundle and net are real, Triton's module is not: it exists inside Triton alone."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from services.explainer.domain.attribution import DEFAULT_METHOD
from services.explainer.triton import backend, tensors
from services.explainer.triton.backend import TritonPythonModel
from services.explainer.triton.definition import BUNDLE
from tests.unit.explainer.made_up import write_bundle

MAPS = (tensors.LOGITS, tensors.ATTRIBUTION)


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
    INTERNAL = "INTERNAL"
    INVALID_ARG = "INVALID_ARG"
    UNAVAILABLE = "UNAVAILABLE"
    UNSUPPORTED = "UNSUPPORTED"


@dataclass
class Response:
    output_tensors: list[Tensor] = field(default_factory=list)
    error: TritonError | None = None


@dataclass
class Request:
    """Asks for `outputs` of pictures; keeps what it is answered. Its caller leaves when it was asked `leaves_after` times whether he is there."""

    pixel_values: np.ndarray
    leaves_after: int | None = None
    outputs: tuple[str, ...] = (tensors.LOGITS,)
    method: str = DEFAULT_METHOD
    sending: Exception | None = None
    answers: list[Response] = field(default_factory=list)
    _asked: int = 0

    def is_cancelled(self) -> bool:
        self._asked += 1
        return self.leaves_after is not None and self._asked > self.leaves_after

    def requested_output_names(self) -> list[str]:
        return list(self.outputs)

    def get_response_sender(self) -> SimpleNamespace:
        return SimpleNamespace(send=self._send)

    def _send(self, response: Response, flags: int) -> None:
        if self.sending:
            raise self.sending
        self.answers.append(response)

    def read(self, name: str) -> Tensor | None:
        rows = (len(self.pixel_values), 1)
        return {
            tensors.PIXEL_VALUES: Tensor(name, self.pixel_values),
            tensors.TARGET: Tensor(name, np.full(rows, -1)),
            tensors.METHOD: Tensor(name, np.full(rows, tensors.METHOD_NAMES.index(self.method))),
        }.get(name)

    @property
    def codes(self) -> list[str | None]:
        return [answer.error and answer.error.code for answer in self.answers]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TritonPythonModel:
    module = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=TritonError,
        get_input_tensor_by_name=Request.read,
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


@pytest.fixture
def computed(model, monkeypatch) -> list[int]:
    """Rows of each pass over the net."""
    rows: list[int] = []
    forward = model._bundle.model.forward

    def counted(pixel_values):
        rows.append(len(pixel_values))
        return forward(pixel_values=pixel_values)

    monkeypatch.setattr(model._bundle.model, "forward", counted)
    return rows


def test_request_whose_caller_left_is_not_computed_and_keeps_no_other_from_being_answered(model, computed):
    left, stays = Request(pictures(5), leaves_after=0), Request(pictures(2))
    model.execute([left, stays])
    assert computed == [2]
    assert (left.codes, stays.codes) == (["CANCELLED"], [None])


def test_batch_that_all_callers_left_is_not_computed(model, computed):
    left = Request(pictures(5), leaves_after=0)
    model.execute([left])
    assert (computed, left.codes) == ([], ["CANCELLED"])


def test_caller_who_leaves_while_his_map_is_made_has_no_further_pass_over_the_net(model, computed):
    stays, leaves = (Request(pictures(1), leaves_after=after, outputs=MAPS, method="OCCLUSION") for after in (None, 1))
    model.execute([stays])
    for_one_who_stays = len(computed)
    computed.clear()
    model.execute([leaves])
    assert (stays.codes, leaves.codes) == ([None], ["CANCELLED"])
    assert len(computed) == 1 < for_one_who_stays


@pytest.mark.parametrize(
    ("error", "code"), [(RuntimeError("no such kernel"), "INTERNAL"), (torch.OutOfMemoryError(), "UNAVAILABLE")]
)
def test_pass_that_fails_is_told_to_all_who_wait_and_raises_nothing(model, monkeypatch, error, code):
    def fail(pixel_values):
        raise error

    monkeypatch.setattr(model._bundle.model, "forward", fail)
    left, *waiting = (Request(pictures(1), leaves_after=after) for after in (0, None, None))
    model.execute([left, *waiting])
    assert [request.codes for request in (left, *waiting)] == [["CANCELLED"], [code], [code]]


def test_request_that_cannot_be_answered_keeps_no_other_from_its_answer(model, monkeypatch):
    def tensor(name: str, values: np.ndarray) -> Tensor:
        if len(values) == 2:
            raise RuntimeError("no memory is left")
        return Tensor(name, values)

    monkeypatch.setattr(model._pb, "Tensor", tensor)
    unsent = Request(pictures(3), sending=RuntimeError("shared memory is full"))
    before, fails, after = (Request(pictures(count)) for count in (1, 2, 4))
    model.execute([before, unsent, fails, after])
    assert [request.codes for request in (before, unsent, fails, after)] == [[None], [], ["INTERNAL"], [None]]


def test_method_that_fails_fails_for_who_asked_for_it_alone(model, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("somewhere in torch")

    monkeypatch.setattr(backend, "attribute_logits", fail)
    asks, other = Request(pictures(1), outputs=MAPS), Request(pictures(1))
    model.execute([asks, other])
    assert (asks.codes, other.codes) == (["UNSUPPORTED"], [None])
    assert asks.answers[0].error.message == (
        "the attribution method on this model failed: ZeroDivisionError: somewhere in torch"
    )

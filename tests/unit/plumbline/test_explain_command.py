"""What `plumbline explain` asks and shows; the explainer is a stand-in that keeps the request."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from plumbline.cli import app
from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from tests.conftest import png

NOWHERE = "127.0.0.1:1"


class Explainer(rpc.ExplainerServiceServicer):
    """Says `ill` of every picture, and of each what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[pb.ExplainRequest] = []

    def Explain(self, request, context):
        self.asked.append(request)
        return pb.ExplainResponse(
            model={"name": "films", "version": 2, "digest": "sha256:2"},
            explanations=[
                pb.Explanation(
                    image_id=image.id,
                    prediction={"label": "ill", "probabilities": [0.25, 0.75], "labels": ["clear", "ill"]},
                    target_label=request.target_label or "ill",
                    contrast_label=request.contrast_label,
                    faithfulness={"deletion_auc": 0.125, "insertion_auc": 0.875, "steps": 20}
                    if request.with_faithfulness
                    else None,
                )
                for image in request.images
            ],
        )


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    server, servicer = grpc.server(ThreadPoolExecutor(2)), Explainer()
    rpc.add_ExplainerServiceServicer_to_server(servicer, server)
    servicer.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield servicer
    server.stop(None)


def explain(explainer: Explainer, folder: Path, *options: str) -> Result:
    (folder / "film.png").write_bytes(png(np.zeros((8, 8), np.uint8)))
    where = ["--explainer", explainer.address, "--lvlm", NOWHERE, "--trainer", NOWHERE]
    return CliRunner().invoke(
        app, [*where, "explain", str(folder / "film.png"), "--model", "films", *options], env={"COLUMNS": "200"}
    )


def test_method_contrast_and_faithfulness_are_asked_for_and_shown(explainer, tmp_path):
    options = ["--target", "clear", "--against", "ill", "--method", "grad-cam", "--faithfulness"]
    told = explain(explainer, tmp_path, *options)
    assert told.exit_code == 0, told.output
    (asked,) = explainer.asked
    assert (asked.target_label, asked.contrast_label, asked.with_faithfulness) == ("clear", "ill", True)
    assert asked.method == pb.ATTRIBUTION_METHOD_GRAD_CAM
    assert "clear against ill" in told.output
    assert "0.125, 0.875" in told.output


def test_nothing_is_asked_for_that_was_not_said(explainer, tmp_path):
    told = explain(explainer, tmp_path)
    assert told.exit_code == 0, told.output
    (asked,) = explainer.asked
    assert (asked.target_label, asked.contrast_label, asked.with_faithfulness) == ("", "", False)
    assert asked.method == pb.ATTRIBUTION_METHOD_UNSPECIFIED
    assert "against" not in told.output
    assert "deletion" not in told.output


def test_method_that_there_is_none_of_is_refused_before_anything_is_asked(explainer, tmp_path):
    assert explain(explainer, tmp_path, "--method", "tea-leaves").exit_code == 2
    assert explainer.asked == []

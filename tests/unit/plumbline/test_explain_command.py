"""What `plumbline explain` asks and shows; the explainer is a stand-in that keeps the request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.explainer.v1 import explainer_service_pb2_grpc as rpc
from plumbline.masks import decode_rle
from tests.conftest import png
from tests.support.commands import run_command, serve


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
                    localization={"relevance_mass": 0.75, "relevance_rank": 0.5, "pointing_hit": True, "area": 0.25}
                    if request.masks
                    else None,
                )
                for image in request.images
            ],
        )


@pytest.fixture
def explainer() -> Iterator[Explainer]:
    made = Explainer()
    with serve(made) as made.address:
        yield made


def explain(explainer: Explainer, folder: Path, *options: str) -> Result:
    (folder / "film.png").write_bytes(png(np.zeros((8, 8), np.uint8)))
    asked = [str(folder / "film.png"), "--model", "films", *options]
    return run_command("explain", *asked, explainer=explainer.address)


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


def test_maps_are_held_against_the_masks_of_their_pictures(explainer, tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[:2] = 1
    (tmp_path / "mask.png").write_bytes(png(mask))
    told = explain(explainer, tmp_path, "--mask", str(tmp_path / "mask.png"))
    assert told.exit_code == 0, told.output
    (sent,) = explainer.asked[0].masks
    assert (decode_rle(sent.counts, 8, 8) == (mask > 0)).all()
    assert "0.750, 0.500, inside, 0.250" in told.output


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (png(np.zeros((8, 8), np.uint8)), "is black all over; expected what is inside to be white"),
        (b"no picture", "expected a PNG, JPEG, WebP or DICOM file"),
    ],
)
def test_a_mask_of_nothing_is_refused_before_anything_is_asked(explainer, tmp_path, mask, expected):
    (tmp_path / "mask.png").write_bytes(mask)
    told = explain(explainer, tmp_path, "--mask", str(tmp_path / "mask.png"))
    assert told.exit_code == 1
    assert expected in told.output.replace("\n", " ")
    assert explainer.asked == []


def test_masks_are_as_many_as_pictures(explainer, tmp_path):
    (tmp_path / "mask.png").write_bytes(png(np.ones((8, 8), np.uint8)))
    told = explain(explainer, tmp_path, *["--mask", str(tmp_path / "mask.png")] * 2)
    assert told.exit_code == 1
    assert "--mask: expected one for each of 1 pictures, got 2" in told.output.replace("\n", " ")


def test_a_picture_whose_name_can_not_travel_is_told(explainer, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(png(np.zeros((8, 8), np.uint8)))
    result = run_command("explain", str(odd), "--model", "films", explainer=explainer.address)
    assert (result.exit_code, explainer.asked) == (1, [])
    assert "\\udcff.png: name that is no UTF-8" in result.stderr


@pytest.mark.parametrize("option", ["--version", "--frame"])
def test_a_number_that_no_message_carries_is_refused(explainer, tmp_path, option):
    result = explain(explainer, tmp_path, option, str(2**31))
    assert (result.exit_code, explainer.asked) == (2, [])
    assert option in result.stderr

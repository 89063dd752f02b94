"""The golden request keeps its pictures and logits, and tells where others differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.common.runtime.errors import InvalidInput
from services.common.vision.golden import (
    GOLDEN,
    GoldenRequest,
    read_golden,
    relative_difference,
    save_golden,
    tell_difference,
)

PICTURES = (np.arange(6, dtype=np.uint8).reshape(2, 3), np.arange(12, dtype=np.uint8).reshape(2, 2, 3))
LOGITS = np.array([[1.0, -4.0, 0.5], [0.0, 0.25, 2.0]], dtype=np.float32)


def test_pictures_of_any_size_and_their_logits_are_read_as_they_were_written(tmp_path):
    save_golden(tmp_path, GoldenRequest(PICTURES, LOGITS))
    read = read_golden(tmp_path)
    assert np.array_equal(read.logits, LOGITS)
    for picture, expected in zip(read.pictures, PICTURES, strict=True):
        assert np.array_equal(picture, expected)


def test_a_bundle_may_have_none(tmp_path):
    assert read_golden(tmp_path) is None


WRONG = {
    "no logits": {"picture_00": PICTURES[0]},
    "no picture": {"logits": LOGITS, "picture_00": PICTURES[0]},
    "no rows": {"logits": LOGITS[:0]},
    "one row": {"logits": LOGITS[0], **{f"picture_0{index}": PICTURES[0] for index in range(3)}},
    "a logit that is no number": {"logits": LOGITS[:1] * np.float32("nan"), "picture_00": PICTURES[0]},
    "a picture of floats": {"logits": LOGITS[:1], "picture_00": PICTURES[0].astype(np.float32)},
    "a picture of four channels": {"logits": LOGITS[:1], "picture_00": np.zeros((2, 2, 4), np.uint8)},
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_golden_request_is_refused(tmp_path: Path, content):
    save_file(content, tmp_path / GOLDEN)
    with pytest.raises(InvalidInput, match=GOLDEN):
        read_golden(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    (tmp_path / GOLDEN).write_bytes(b"pickle")
    with pytest.raises(InvalidInput, match=GOLDEN):
        read_golden(tmp_path)


def test_differences_are_told_relative_to_the_largest_logit_and_by_place():
    other = LOGITS.copy()
    other[1, 2] = 2.4
    assert relative_difference(other, LOGITS) == pytest.approx(0.1)
    assert relative_difference(other / 10, LOGITS / 10) == pytest.approx(0.04)
    assert tell_difference(other, LOGITS) == "logit 2 of picture 1 is 2.4 instead of 2"

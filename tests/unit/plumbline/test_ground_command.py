"""What `plumbline ground` writes; the LVLM service is a stand-in that finds every phrase in the upper left corner."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plumbline.lvlm.v1 import lvlm_service_pb2 as pb
from plumbline.lvlm.v1 import lvlm_service_pb2_grpc as rpc
from plumbline.masks import encode_rle
from tests.conftest import png
from tests.support.commands import run_command, serve


class Lvlm(rpc.LvlmServiceServicer):
    def GroundPhrases(self, request, context):
        mask = np.zeros((8, 8), bool)
        mask[:2, :2] = True
        found = {"mask": {"counts": encode_rle(mask), "height_px": 8, "width_px": 8}, "boxes": [{"bottom_px": 2}]}
        return pb.GroundPhrasesResponse(
            phrases=[
                {"image_id": image.id, "phrase": phrase} | found
                for image in request.images
                for phrase in request.phrases
            ]
        )


@pytest.fixture
def address() -> Iterator[str]:
    with serve(Lvlm()) as served:
        yield served


def test_a_picture_larger_than_services_take_by_default_is_drawn_when_one_took_it(address: str, tmp_path: Path):
    data = png(np.zeros((8, 8), np.uint8))
    note = b"tEXt" + b"note\0" + bytes(17 * 2**20)
    chunk = struct.pack(">I", len(note) - 4) + note + struct.pack(">I", zlib.crc32(note))
    (tmp_path / "film.png").write_bytes(data[:33] + chunk + data[33:])
    result = run_command("ground", str(tmp_path / "film.png"), "-p", "letter", "--out", str(tmp_path), lvlm=address)
    assert result.exit_code == 0, result.output
    drawn = (tmp_path / "film.png.0.letter.png").read_bytes()
    assert Image.open(io.BytesIO(drawn)).size == (8, 8)


def test_a_picture_that_can_not_be_read_is_told_in_one_line():
    result = run_command("ground", "/proc/self/mem", "-p", "letter")
    assert (result.exit_code, result.stderr) == (1, "error: [Errno 5] Input/output error\n")


def test_a_picture_that_can_not_be_drawn_is_told_in_one_line(address: str, tmp_path: Path):
    (tmp_path / "film.png").write_bytes(b"I am text")
    result = run_command("ground", str(tmp_path / "film.png"), "-p", "letter", "--out", str(tmp_path), lvlm=address)
    assert (result.exit_code, result.stderr.startswith("error: not a picture")) == (1, True), result.output


def test_a_name_that_can_not_travel_is_told(address: str, tmp_path: Path):
    odd = tmp_path / os.fsdecode(b"\xff.png")
    odd.write_bytes(png(np.zeros((8, 8), np.uint8)))
    result = run_command("ground", str(odd), "-p", "letter", lvlm=address)
    assert (result.exit_code, "name that is no UTF-8" in result.stderr) == (1, True)

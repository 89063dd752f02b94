"""What label tools write becomes critiques that the trainer takes; what can't be used is told, and costs no other picture."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.labelling import Findings, Gallery, read_critiques, split_batches
from plumbline.labelling.coco import write_coco
from plumbline.masks import decode_rle
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.common import wire
from services.common.vision.critique import MAX_BATCH_BYTES, Critique, CritiqueBatch

GOLDEN = Path(__file__).parent / "golden" / "label_tool.coco.json"
HEIGHT_PX, WIDTH_PX = 4, 6
MODEL = f"sha256:{'1' * 64}"


def gallery(*names: str) -> Gallery:
    pictures = [
        trainer_pb.ChosenPicture(
            image_id=name,
            image_digest=f"sha256:{number:064x}",
            true_label="3",
            height_px=HEIGHT_PX,
            width_px=WIDTH_PX,
        )
        for number, name in enumerate(names)
    ]
    return Gallery(pictures, MODEL, "radiologist")


def read(path: Path, *names: str) -> Findings:
    return read_critiques(path, "job-1", gallery(*names))


def masks(critique: dict[str, Any]) -> list[tuple[str, list[list[int]]]]:
    """Verdict and marked pixels (row, column) of each segment of a critique that the trainer takes."""
    taken = Critique.model_validate(critique)
    return [
        (verdict.verdict, np.argwhere(decode_rle(verdict.mask.counts, *verdict.mask.size)).tolist())
        for verdict in taken.verdicts
    ]


def test_polygons_and_both_kinds_of_run_lengths_of_a_coco_file_become_segments():
    found = read(GOLDEN, "a.png", "images/b.png", "c.png", "d.png", "e.png")
    first, second = found.critiques
    square = [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert masks(first) == [
        ("SPURIOUS", [[0, 5], *square]),
        ("CORE", [[0, 0], [1, 0], [2, 0], [3, 0]]),
    ]
    assert masks(second) == [("SPURIOUS", [[1, 2], [1, 3], [2, 2], [2, 3]])]
    assert (second["image_id"], second["true_label"], second["model_digest"]) == ("images/b.png", "3", MODEL)
    assert second["provenance"] == {"engine": "person", "model_id": "radiologist"}


def test_what_a_coco_file_can_not_say_is_told_picture_by_picture():
    found = read(GOLDEN, "a.png", "images/b.png", "c.png", "d.png", "e.png")
    assert found.faults == [
        (
            "c.png",
            "annotations[5].category_id: expected a category named SPURIOUS, CORE, UNSURE, got 'TUMOUR'",
        ),
        ("d.png", "height and width: expected [4, 6], the picture's, got [40, 60]"),
    ]
    assert found.unknown == ["of-another-set.png"]


def test_a_name_that_two_pictures_have_is_neither():
    assert read(GOLDEN, "one/b.png", "two/b.png").critiques == []


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([], "expected polygons or run lengths"),
        (None, "expected polygons or run lengths"),
        ([[0, 0, 1, 1]], "three corners"),
        ([[0, 0, 1, 1, 2]], "three corners"),
        ([["a", 0, 1, 1, 2, 2]], "could not convert"),
        ({"size": [6, 4], "counts": [24]}, "size: expected [4, 6]"),
        ({"size": [4, 6], "counts": [2**40]}, "4×6 pixels"),
        ({"size": [4, 6], "counts": "PPPPP1"}, "4×6 pixels"),
        ({"size": [4, 6], "counts": "é"}, "ascii"),
        ({"size": [4, 6]}, "counts"),
    ],
)
def test_a_segmentation_that_is_none_is_told(tmp_path: Path, segmentation: Any, words: str):
    content = json.loads(GOLDEN.read_text())
    content["annotations"] = [{"image_id": 1, "category_id": 7, "segmentation": segmentation}]
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    found = read(path, "a.png")
    ((name, reason),) = found.faults
    assert (name, found.critiques) == ("a.png", [])
    assert reason.startswith("annotations[0].segmentation: ")
    assert words in reason


def test_an_annotation_of_no_picture_is_told(tmp_path: Path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({"images": [], "annotations": [{"image_id": 4}]}))
    assert read(path, "a.png").faults == [("annotations[0]", "image_id: there is no image 4")]


@pytest.mark.parametrize(
    "content", ["{", '{"images": [3], "annotations": []}', '{"images": [], "annotations": [[]]}', "{}", "[3]", '"x"']
)
def test_what_is_neither_coco_nor_a_batch_is_refused(tmp_path: Path, content: str):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(PlumblineError, match=r"not JSON|no COCO annotations|expected a critique batch"):
        read(path, "a.png")


def test_nonzero_pixels_of_png_masks_are_spurious_and_an_empty_mask_says_nothing_to_mask(tmp_path: Path):
    marked = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    marked[3, 1] = 1
    Image.fromarray(marked).save(tmp_path / "a.png")
    Image.fromarray(marked * 0).save(tmp_path / "b.png")
    Image.fromarray(marked.astype(bool)).save(tmp_path / "c.png")
    coloured = np.zeros((HEIGHT_PX, WIDTH_PX, 4), np.uint8)
    coloured[3, 1] = [0, 9, 0, 255]
    coloured[0, 0] = [255, 255, 255, 0]  # transparent
    Image.fromarray(coloured).save(tmp_path / "d.png")
    Image.fromarray(marked).save(tmp_path / "other.png")
    (tmp_path / "readme.txt").write_text("no mask")
    found = read(tmp_path, "images/a.jpg", "b.png", "c.png", "d.png")
    one = [("SPURIOUS", [[3, 1]])]
    assert [masks(critique) for critique in found.critiques] == [one, [], one, one]
    assert found.critiques[0]["image_id"] == "images/a.jpg"
    assert (found.unknown, found.faults) == (["other.png"], [])


def test_a_mask_of_another_size_and_a_file_that_is_no_picture_cost_no_other(tmp_path: Path):
    Image.fromarray(np.ones((HEIGHT_PX, HEIGHT_PX), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    Image.fromarray(np.ones((HEIGHT_PX, WIDTH_PX), np.uint8)).save(tmp_path / "c.png")
    found = read(tmp_path, "a.png", "b.png", "c.png")
    assert [name for name, _ in found.faults] == ["a.png", "b.png"]
    assert "expected 4×6" in found.faults[0][1]
    assert [critique["image_id"] for critique in found.critiques] == ["c.png"]


def test_a_folder_without_masks_is_refused(tmp_path: Path):
    with pytest.raises(PlumblineError, match=r"expected a mask per picture"):
        read(tmp_path, "a.png")


def test_our_own_batches_pass_as_they_are(tmp_path: Path):
    path = tmp_path / "batches.json"
    batches = [{"schema_version": 1, "job_id": "job-1", "critiques": [number, {}]} for number in range(2)]
    path.write_text(json.dumps(batches))
    assert read(path).critiques == [0, {}, 1, {}]
    path.write_text(json.dumps(batches[0]))
    assert read(path).critiques == [0, {}]


@pytest.mark.parametrize("change", [{"job_id": "job-2"}, {"job_id": None}, {"schema_version": 2}, {"critiques": 3}])
def test_a_batch_for_another_job_or_of_another_form_is_refused(tmp_path: Path, change: dict[str, Any]):
    path = tmp_path / "batch.json"
    path.write_text(json.dumps({"job_id": "job-1", "critiques": []} | change))
    with pytest.raises(PlumblineError, match=r"job_id|schema_version|expected a critique batch"):
        read(path)


def make_critiques(count: int, words: int) -> list[dict[str, Any]]:
    drawn = gallery(*(f"{number}.png" for number in range(count)))
    pictures = [drawn.find(f"{number}.png") for number in range(count)]
    return [drawn.critique(picture, [], "é" * words) for picture in pictures]


@pytest.mark.parametrize(("count", "words", "batch_count"), [(1, 1, 1), (70, 1, 3), (20, 5_000, 4)])
def test_batches_keep_the_queues_caps_and_lose_nothing(count: int, words: int, batch_count: int):
    findings = Findings(make_critiques(count, words))
    batches = [json.loads(text) for text in split_batches("job-1", findings)]
    assert len(batches) == batch_count
    taken = [CritiqueBatch.model_validate(batch) for batch in batches]
    assert [critique for batch in batches for critique in batch["critiques"]] == findings.critiques
    assert all(len(batch.model_dump_json().encode()) <= MAX_BATCH_BYTES for batch in taken)
    assert findings.faults == []


def test_a_critique_that_fits_no_batch_is_told_and_the_rest_goes_on():
    findings = Findings([*make_critiques(1, 40_000), *make_critiques(2, 1), "no critique"])
    (batch,) = split_batches("job-1", findings)
    assert len(json.loads(batch)["critiques"]) == 3
    ((name, reason),) = findings.faults
    assert (name, "bytes as JSON" in reason) == ("0.png", True)


def test_what_is_exported_as_coco_is_read_back_the_same(tmp_path: Path):
    found = read(GOLDEN, "a.png", "images/b.png")
    critiqued = [
        trainer_pb.CritiquedImage(
            image=vision_pb2.Image(id=critique["image_id"]),
            critique=wire.critique_to_proto(Critique.model_validate(critique)),
        )
        for critique in found.critiques
    ]
    chosen = [
        trainer_pb.ChosenPicture(image_digest=picture.critique.image_digest, height_px=HEIGHT_PX, width_px=WIDTH_PX)
        for picture in critiqued
    ]
    path = tmp_path / "coco.json"
    exported = write_coco(critiqued, chosen)
    path.write_text(json.dumps(exported))
    assert read(path, "a.png", "images/b.png").critiques == found.critiques
    assert exported["annotations"][2]["bbox"] == [2, 1, 2, 2]
    assert exported["annotations"][2]["area"] == 4


def test_a_mask_that_claims_more_pixels_than_any_picture_costs_no_other(tmp_path: Path):
    Image.fromarray(np.ones((HEIGHT_PX, WIDTH_PX), np.uint8)).save(tmp_path / "a.png")
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    claim = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "b.png").write_bytes(claim + (tmp_path / "a.png").read_bytes()[33:])
    found = read(tmp_path, "a.png", "b.png")
    assert [name for name, _ in found.faults] == ["b.png"]
    assert [critique["image_id"] for critique in found.critiques] == ["a.png"]

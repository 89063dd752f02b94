"""The page that a clinician looks at: what was said and decided, where the segments lie, and nothing that runs but our own script."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.masks import encode_rle, fill_polygon
from plumbline.report import render_review
from plumbline.report.pictures import EMBEDDED_PX, embed_picture
from plumbline.report.review import outline
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from tests.conftest import png

JOB = pb.Alignment(
    job_id="job-1",
    state="JOB_STATE_AWAITING_REVIEW",
    model={"name": "knees", "version": 2},
    specification={"task": "Read.", "rules": [{"class_name": "all", "should_not_matter": "the letter"}]},
)


def picture(name: str = "a.png", **changes: object) -> pb.CritiquedImage:
    mask = np.zeros((8, 8), dtype=bool)
    mask[:2, :3] = True
    verdict = critique_pb2.SegmentVerdict(
        segment_index=1,
        verdict="VERDICT_SPURIOUS",
        share=0.62,
        mask={"counts": encode_rle(mask), "height_px": 8, "width_px": 8},
    )
    content = {"image_id": name, "image_digest": f"sha256:{'a' * 64}", "true_label": "3", "verdicts": [verdict]}
    return pb.CritiquedImage(
        image=vision_pb2.Image(id=name, data=png(np.zeros((8, 8), np.uint8))),
        critique=critique_pb2.Critique(**content | changes),
        provenance={"engine": "transformers", "model_id": "nano"},
    )


def test_every_picture_stands_with_its_digest_segments_reasons_and_who_said_it():
    page = render_review(JOB, [picture(reasons="A letter, no bone.")])
    for words in ("a.png", "a" * 64, "SPURIOUS", "62 % of the evidence", "A letter, no bone.", "transformers nano"):
        assert words in page
    assert "1 without a decision" in " ".join(page.split())


def test_a_decision_stands_with_its_reviewer_and_reason_and_an_edit_beside_the_original():
    edited = picture()
    edited.review.decision, edited.review.reviewer = pb.REVIEW_DECISION_EDIT, "Dr. Ada"
    edited.review.reason = "it is bone"
    edited.review.edit.CopyFrom(edited.critique)
    edited.review.edit.verdicts[0].verdict = critique_pb2.VERDICT_CORE
    page = render_review(JOB, [edited])
    assert re.search(r"EDIT</b> by Dr. Ada, .*: it is bone", page)
    assert page.index("as it came") < page.index("as Dr. Ada edited it")
    assert page.count("<figure>") == 2


def test_a_picture_that_failed_and_one_with_nothing_to_mask_say_so():
    page = render_review(JOB, [picture(verdicts=[], failure="unreadable"), picture("b.png", verdicts=[])])
    assert "unreadable" in page
    assert "nothing to mask" in page


def test_choices_are_offered_only_while_the_job_awaits_its_review():
    assert 'type="radio"' in render_review(JOB, [picture()])
    ended = pb.Alignment()
    ended.CopyFrom(JOB)
    ended.state = pb.JOB_STATE_PUBLISHED
    assert 'type="radio"' not in render_review(ended, [picture()])


def test_words_of_others_are_text_on_the_page():
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>"
    job = pb.Alignment()
    job.CopyFrom(JOB)
    job.job_id = hostile
    page = render_review(job, [picture(hostile, true_label=hostile, reasons=hostile, image_digest=hostile)])
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<img src=x" not in page


def test_the_page_needs_nothing_beside_itself():
    page = render_review(JOB, [picture()])
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!data:)\w""", page)


def _filled(path: str, side_px: int) -> np.ndarray:
    """The pixels inside an outline: those with an odd number of its upright strokes to the left."""
    crossings = np.zeros((side_px, side_px + 1), dtype=int)
    for x, y, length in re.findall(r"M(\d+) (\d+)v(\d+)", path):
        crossings[int(y) : int(y) + int(length), int(x)] += 1
    return np.cumsum(crossings, axis=1)[:, :side_px] % 2 == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_an_outline_goes_around_the_masks_pixels(share: float):
    mask = np.random.default_rng(0).random((9, 9)) < share
    assert np.array_equal(_filled(outline(mask), 9), mask)
    transposed = re.sub(r"M(\d+) (\d+)h", r"M\2 \1v", re.sub(r"M\d+ \d+v\d+", "", outline(mask)))
    assert np.array_equal(_filled(transposed, 9), mask.T)


def test_the_outline_of_a_shape_is_drawn_over_the_picture_as_an_image():
    disc = fill_polygon(np.array([[1, 1], [7, 1], [7, 7], [1, 7]]), 8, 8)
    assert outline(disc) == "M1 1h6M1 7h6M1 1v6M7 1v6"
    drawn = re.search(r"<svg viewBox=\"0 0 8 8\".*?</svg>", render_review(JOB, [picture()]), re.DOTALL)
    assert len(ET.fromstring(drawn[0]).findall("path")) == 2


def test_large_pictures_are_embedded_small():
    noise = np.random.default_rng(0).integers(0, 255, (1200, 900, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert embed_picture(file.getvalue()).startswith("data:image/jpeg;base64,")
    assert len(embed_picture(file.getvalue())) < EMBEDDED_PX**2
    assert embed_picture(png(noise[:8, :8])).startswith("data:image/png;base64,")

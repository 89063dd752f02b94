"""Generated bad requests to a real explainer, as `benchmarks.explainer.bad_requests` sends them by the thousand."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from benchmarks.explainer.bad_requests import BROKEN, Callers, find_explainer
from benchmarks.explainer.malformed import PATIENT, make_bad_request
from plumbline.errors import PlumblineError
from services.common.vision.preprocessing import ImageLimits, decode_image
from tests.conftest import png
from tests.unit.plumbline.pictures.made_dicom import dicom

COUNT, SEED = 200, 1


@pytest.fixture(scope="module")
def answers(served):
    with Callers(served.layout.explainer, served.name, SEED) as callers:
        return callers.ask_all(range(COUNT))


def test_no_bad_request_breaks_the_explainer(served, answers):
    explainer = find_explainer(served.layout)
    assert [answer for answer in answers if answer.code in BROKEN] == []
    assert explainer.is_running()
    assert {answer.code for answer in answers} >= {"INVALID_ARGUMENT", "NOT_FOUND", "OK"}


def test_good_requests_among_the_bad_are_answered_as_before(answers):
    assert [answer.code for answer in answers if answer.kind == "good"] == ["OK"] * (COUNT // 10)


def test_no_patient_is_told_of_in_answers_or_logs(served, answers):
    assert not [answer for answer in answers if PATIENT in answer.details]
    assert PATIENT not in (served.layout.logs / "explainer.log").read_text()


def test_the_same_number_makes_the_same_request(served):
    for number in range(100):
        assert make_bad_request(number, SEED, "digits") == make_bad_request(number, SEED, "digits")


def test_dicom_is_explained_in_the_pixels_that_the_services_see(served):
    grey = decode_image(served.pictures[0][1], ImageLimits(), "")
    tall = np.kron(grey, np.ones((3, 2), np.uint8))
    inverted = dicom(255 - tall, PhotometricInterpretation="MONOCHROME1")
    found, expected = served.client.explain(served.name, [("film", inverted), ("picture", png(tall))])[1]
    assert found.prediction.probabilities == pytest.approx(list(expected.prediction.probabilities), abs=1e-4)
    assert list(found.attribution.shape) == [84, 56]
    assert [segment.mask for segment in found.segments] == [segment.mask for segment in expected.segments]


def test_frame_is_explained_by_its_number_and_has_its_own_digest(served):
    grey = decode_image(served.pictures[0][1], ImageLimits(), "")
    several = dicom(np.stack([grey, 255 - grey]), NumberOfFrames=2)
    first, second = (served.client.explain(served.name, [("film", several)], frame=number)[1][0] for number in (1, 2))
    alone = served.client.explain(served.name, [("second", png(255 - grey))])[1][0]
    assert second.prediction.probabilities == pytest.approx(list(alone.prediction.probabilities), abs=1e-4)
    assert first.image_digest != second.image_digest
    with pytest.raises(PlumblineError, match="2 frames"):
        served.client.explain(served.name, [("film", several)])


def test_map_and_masks_lie_in_the_picture_as_its_exif_turns_it(served):
    upright = np.kron(decode_image(served.pictures[0][1], ImageLimits(), ""), np.ones((1, 2), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.rot90(upright)).save(file, format="PNG", exif=exif)
    turned, as_drawn = served.client.explain(served.name, [("turned", file.getvalue()), ("drawn", png(upright))])[1]
    assert list(turned.attribution.shape) == [28, 56]
    assert [segment.mask for segment in turned.segments] == [segment.mask for segment in as_drawn.segments]

"""The largest pictures that are taken, several at a time, within the memory that the explainer's container has."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plumbline.client import Client
from services.explainer.settings import ExplainerSettings
from tests.conftest import Served
from tests.support.manifests import K8S, list_pods, render
from tests.unit.plumbline.pictures.made_dicom import dicom

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CALLERS = 3
"""One more than are taken at a time."""
HEIGHT_PX, WIDTH_PX = 4000, 8000
FRAMES, SIDE_PX = 20, 2500


def uncompressed_png() -> bytes:
    """A picture of the most pixels, as large as it can be as a file."""
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG", compress_level=0)
    return file.getvalue()


def film_of_many_frames() -> bytes:
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, SIDE_PX, SIDE_PX), dtype=np.uint8)
    return dicom(frames, NumberOfFrames=FRAMES)


@pytest.mark.parametrize(
    ("make", "frame", "shape"),
    [(uncompressed_png, 0, (HEIGHT_PX, WIDTH_PX)), (film_of_many_frames, FRAMES, (SIDE_PX, SIDE_PX))],
    ids=["png", "dicom"],
)
def test_largest_pictures_are_explained_side_by_side_within_the_containers_memory(served: Served, make, frame, shape):
    data = make()
    bound = ExplainerSettings.model_fields["max_upload_bytes"].default
    assert 0.7 * bound < len(data) <= bound

    def explain(_: int) -> tuple[int, ...]:
        with Client(served.layout.explainer, served.layout.lvlm, served.layout.trainer) as client:
            _, (explanation,) = client.explain(served.name, [("large", data)], with_overlay=True, frame=frame)
        return tuple(explanation.attribution.shape)

    with ThreadPoolExecutor(CALLERS) as pool:
        assert list(pool.map(explain, range(CALLERS))) == [shape] * CALLERS
    assert most_resident_mib(served.layout.read_pids()["explainer"]) < container_mib()


def most_resident_mib(pid: int) -> float:
    """The most that a process ever held."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def container_mib() -> float:
    (container,) = list_pods(render(K8S / "base"))["explainer"]["containers"]
    return int(re.fullmatch(r"(\d+)Gi", container["resources"]["limits"]["memory"])[1]) * 1024

"""The trainer shows explainer and LVLM service its certificate, and learns what its role is too small for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from plumbline.certificates import CertificateFiles
from services.common.runtime.errors import NotFound, PermissionDenied, Unavailable
from services.common.vision.explanation import Segment
from services.common.vision.typed_rules import MaskSource
from services.trainer.adapters.explainer_client import ExplainerClient
from services.trainer.adapters.lvlm_client import LvlmClient
from services.trainer.ports import ExplainedSample, ModelAnswer, Sample
from tests.support.certificates import Authority
from tests.support.guarded_server import guarded_settings, serving
from tests.unit.trainer.made_up import MODEL_DIGEST, RULES, SPECIFICATION

TIMEOUT_S = 5.0
MODEL = ModelAnswer("stripes", 1, MODEL_DIGEST, ("0", "1"))


@pytest.fixture
def trainer(tmp_path: Path) -> CertificateFiles:
    return Authority().write(tmp_path / "trainer", "trainer")


@pytest.fixture
def address(tmp_path: Path, trainer: CertificateFiles) -> Iterator[str]:
    """Of a server that serves no model and where the trainer is a mere viewer."""
    roles = tmp_path / "roles.yaml"
    roles.write_text("viewer: [trainer]")
    with serving(guarded_settings(trainer, roles)) as address:
        yield address


def test_with_its_certificate_the_trainer_is_answered(address: str, trainer: CertificateFiles):
    with pytest.raises(NotFound, match="'stripes' has no version 1"):
        ExplainerClient(address, TIMEOUT_S, TIMEOUT_S, trainer).find_model("stripes", 1)


def test_without_one_the_explainer_is_away(address: str):
    with pytest.raises(Unavailable):
        ExplainerClient(address, TIMEOUT_S, TIMEOUT_S).find_model("stripes", 1)


def test_a_role_that_is_too_small_is_told(address: str, trainer: CertificateFiles):
    segment = Segment(1, 1.0, np.ones((8, 8), dtype=bool))
    picture = ExplainedSample(Sample("a.png", "0", MODEL_DIGEST, Path("a.png")), "0", (segment,), b"")
    with pytest.raises(PermissionDenied, match="needs the role submitter or above; 'trainer' has viewer"):
        LvlmClient(address, TIMEOUT_S, trainer).translate(
            MODEL, SPECIFICATION, [picture], "j", MaskSource.AGREED, RULES
        )

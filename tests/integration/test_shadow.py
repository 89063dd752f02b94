"""A shadow on a real Triton, over real gRPC: its numbers are those of the two versions, and the champion's replies stay what they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.stack.bundles import store_bundle
from plumbline.trainer.v1 import audit_service_pb2 as pb
from services.common.vision.model_bundle import PREPROCESSING, load_bundle, save_bundle
from tests.conftest import Served
from tests.support.waiting import wait_for

COMPARED_S = 240.0
pytestmark = pytest.mark.timeout(900)  # Triton starts a process per version, and that takes a minute on a busy machine


@pytest.fixture
def shadowed(served: Served, tmp_path: Path) -> tuple[str, Client, str]:
    """A model under a name of its own, a client that says who asks, and the store's path of another bundle of it, turned round."""
    name = f"shadowed-{tmp_path.name.replace('_', '-').lower()[:40]}"
    first = served.layout.models / served.name / "1" / "bundle"
    bundle = load_bundle(first)
    with torch.no_grad():
        list(bundle.model.parameters())[-1].neg_()
        list(bundle.model.parameters())[-2].mul_(0.5)
    preprocessing = json.loads((first / PREPROCESSING).read_text())
    save_bundle(tmp_path / "other", bundle.model, preprocessing, bundle.baselines, {"made_by": "test"}, "# other\n")
    layout = served.layout
    with Client(layout.explainer, layout.lvlm, layout.trainer, "anna") as client:
        client.publish(name, store_bundle(layout.store, name, first)[0], 0, "version-1")
        yield name, client, store_bundle(layout.store, name, tmp_path / "other")[0]


def answers(client: Client, served: Served, name: str, version: int = 0) -> np.ndarray:
    return np.array(
        [list(prediction.probabilities) for prediction in client.predict(name, served.pictures[:40], version)]
    )


def test_a_bundle_in_the_shadow_is_compared_with_the_champion_whose_replies_do_not_change(served, shadowed):
    name, client, path = shadowed
    before = answers(client, served, name)
    shadow = client.publish(name, path, 1, "challenger", as_shadow=True)
    assert shadow.version == 2
    listed = {entry.model.version: entry for entry in client.models(name)}
    assert [(e.is_champion, e.is_shadow, e.as_shadow, e.is_ready) for e in listed.values()] == [
        (True, False, False, True),
        (False, True, True, True),
    ]

    def compare() -> explainer_pb.GetShadowResponse | None:
        # A tenth of the requests is taken; all hold the same pictures, so it does not matter which.
        assert np.array_equal(answers(client, served, name), before)
        found = client.shadow(name)
        return found if found.picture_count >= 80 else None

    found = wait_for(compare, COMPARED_S)
    champion, other = before, answers(client, served, name, 2)
    requests, rest = divmod(found.picture_count, 40)
    assert rest == 0
    assert (found.champion_version, found.shadow_version, found.shadow) == (1, 2, shadow)
    said = list(zip(champion.argmax(axis=1), other.argmax(axis=1), strict=True))
    assert found.agreement == pytest.approx(np.mean([row == column for row, column in said]))
    assert found.mean_difference == pytest.approx(np.abs(champion - other).mean(), abs=1e-5)
    assert found.mean_difference > 0.001
    confusion = np.array(found.confusion).reshape(len(found.labels), len(found.labels))
    assert confusion.tolist() == [
        [requests * said.count((row, column)) for column in range(len(found.labels))]
        for row in range(len(found.labels))
    ]
    assert (found.failed_count, found.dropped_count) == (0, 0)

    client.set_shadow(name, 0)
    assert not client.shadow(name).HasField("shadow")
    assert client.shadow(name).picture_count >= found.picture_count
    actions = [(pb.AuditAction.Name(e.action), e.model.version, e.caller) for e in client.audit_events(model_name=name)]
    assert actions == [
        ("AUDIT_ACTION_SHADOW_ENDED", 2, "anna"),
        ("AUDIT_ACTION_SHADOW_SET", 2, "anna"),
        ("AUDIT_ACTION_MODEL_PUBLISHED", 1, "anna"),
    ]
    assert client.live_version(name).event.model.version == 1
    assert not client.verify_audit().HasField("fault")


def test_what_can_not_be_a_shadow_is_refused_over_the_wire(served):
    client, name = served.client, served.name
    champion = next(entry.model.version for entry in client.models(name) if entry.is_champion)
    for asked, code, field in (
        ((name, champion), "INVALID_ARGUMENT", "version"),
        ((name, champion + 9), "NOT_FOUND", "version"),
        (("nobody", 1), "NOT_FOUND", "name"),
        (("", 1), "INVALID_ARGUMENT", "name"),
    ):
        with pytest.raises(PlumblineError, match=field) as caught:
            client.set_shadow(*asked)
        assert caught.value.code == code
    with pytest.raises(PlumblineError, match="name"):
        client.shadow("nobody")
    assert not client.shadow(name).HasField("shadow")

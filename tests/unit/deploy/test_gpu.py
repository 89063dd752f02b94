"""What computes on a GPU asks for one, may stand where one is, and gives its own back before the next pod wants it."""

from __future__ import annotations

import pytest

from tests.support.manifests import K8S, Object, render, violations
from tests.unit.deploy.test_manifests import SETTINGS

ON_GPU = {"triton", "trainer-worker"}


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render(K8S / "overlays" / "gpu")


def _deployments(objects: list[Object]) -> dict[str, Object]:
    return {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Deployment"}


def test_one_gpu_goes_to_each_pod_that_computes_on_one_and_to_no_other(objects: list[Object]):
    limits = {
        name: spec["template"]["spec"]["containers"][0]["resources"]["limits"]
        for name, spec in _deployments(objects).items()
    }
    assert {
        name: limit["nvidia.com/gpu"] for name, limit in limits.items() if "nvidia.com/gpu" in limit
    } == dict.fromkeys(ON_GPU, "1")


def test_such_a_pod_may_stand_on_a_gpu_node_and_is_replaced_before_the_new_one_starts(objects: list[Object]):
    for name in ON_GPU:
        spec = _deployments(objects)[name]
        assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["template"]["spec"][
            "tolerations"
        ]
        assert spec["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_settings_send_models_and_trainings_to_the_gpu(objects: list[Object], monkeypatch: pytest.MonkeyPatch):
    for service in SETTINGS:
        content = next(each["data"] for each in objects if each["metadata"]["name"].startswith(f"{service}-settings"))
        for name, value in content.items():
            monkeypatch.setenv(name, value)
    assert SETTINGS["explainer"]().is_gpu
    assert SETTINGS["trainer"]().training_device == "cuda"


def test_a_pod_that_asks_for_a_gpu_and_starts_its_successor_first_is_caught(objects: list[Object]):
    assert violations(objects) == []
    del _deployments(objects)["triton"]["strategy"]
    assert violations(objects) == ["Deployment triton: a rollout waits for the GPU that the old pod has"]

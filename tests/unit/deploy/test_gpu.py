"""What computes on a GPU asks for one, may stand where one is, and gives its own back before the next pod wants it."""

from __future__ import annotations

import pytest

from tests.support.manifests import (
    K8S,
    Object,
    find,
    list_containers,
    list_pods,
    load_settings,
    render,
    render_component,
    violations,
)


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render(K8S / "overlays" / "gpu")


@pytest.fixture(scope="module", params=[False, True], ids=["workers that stay", "a pod for each step"])
def pods(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    """What pods are made of, by who makes them, without and with step-pods."""
    components = ["autoscaling", "step-pods", "gpu"] if request.param else ["gpu"]
    rendered = render_component(tmp_path_factory.mktemp("gpu"), *components)
    assert violations(rendered) == []
    return list_pods(rendered)


def test_one_gpu_goes_to_each_pod_that_computes_on_one_and_to_no_other(pods: dict[str, Object]):
    limits = {
        (name, container["name"]): container["resources"]["limits"]
        for name, pod in pods.items()
        for container in list_containers(pod)
    }
    trains = "trainer-step" if "trainer-step" in pods else "trainer-worker"
    with_gpu = {place: limit["nvidia.com/gpu"] for place, limit in limits.items() if "nvidia.com/gpu" in limit}
    assert with_gpu == {("explainer", "triton"): "1", (trains, pods[trains]["containers"][0]["name"]): "1"}
    for name, _ in with_gpu:
        assert pods[name]["runtimeClassName"] == "nvidia"
        toleration = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        assert toleration in pods[name]["tolerations"]


def test_settings_send_models_and_trainings_to_the_gpu(objects: list[Object], monkeypatch: pytest.MonkeyPatch):
    assert load_settings(objects, "explainer", monkeypatch).is_gpu
    assert load_settings(objects, "trainer", monkeypatch).training_device == "cuda"


def test_a_pod_that_asks_for_a_gpu_and_starts_its_successor_first_is_caught(objects: list[Object]):
    assert violations(objects) == []
    del find(objects, "Deployment", "explainer")["spec"]["strategy"]
    assert violations(objects) == ["Deployment explainer: a rollout waits for the GPU that the old pod has"]

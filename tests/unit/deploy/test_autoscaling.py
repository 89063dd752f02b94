"""Services are scaled by their load, workers by every queue that they take from and by nothing else."""

from __future__ import annotations

import pytest

from services.common.runtime.queues import WORKER_QUEUES
from tests.support.manifests import Object, find, list_containers, list_pods, render_component, validate, violations


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The local overlay with the component."""
    return render_component(tmp_path_factory.mktemp("scaled"), "autoscaling")


def _triggers(objects: list[Object]) -> list[dict[str, str]]:
    return [trigger["metadata"] for trigger in find(objects, "ScaledObject", "trainer-worker")["spec"]["triggers"]]


def test_every_queue_of_a_worker_is_looked_at_in_the_order_in_which_it_takes_from_them(scaled: list[Object]):
    assert [trigger["listName"] for trigger in _triggers(scaled)] == list(WORKER_QUEUES)


def test_the_more_urgent_jobs_are_the_fewer_may_wait(scaled: list[Object]):
    lengths = {trigger["listName"]: int(trigger["listLength"]) for trigger in _triggers(scaled)}
    jobs = [lengths[queue] for queue in WORKER_QUEUES[1:]]
    assert jobs == sorted(set(jobs))


def test_it_is_the_worker_that_is_scaled_and_one_always_stays(scaled: list[Object]):
    spec = find(scaled, "ScaledObject", "trainer-worker")["spec"]
    assert find(scaled, "Deployment", spec["scaleTargetRef"]["name"])["metadata"]["name"] == "trainer-worker"
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]


def test_the_autoscaler_asks_redis_where_it_is_and_is_let_in(scaled: list[Object]):
    redis = find(scaled, "Service", "redis")
    address = f"redis.{redis['metadata']['namespace']}.svc:{redis['spec']['ports'][0]['port']}"
    assert {trigger["address"] for trigger in _triggers(scaled)} == {address}
    policy = find(scaled, "NetworkPolicy", "redis-from-keda")["spec"]
    assert policy["podSelector"]["matchLabels"] == redis["spec"]["selector"]
    assert [port["port"] for port in policy["ingress"][0]["ports"]] == [redis["spec"]["ports"][0]["port"]]


def test_what_is_scaled_keeps_the_policy_and_is_valid(scaled: list[Object]):
    assert violations(scaled) == []
    validate(scaled)


@pytest.mark.parametrize("service", ["explainer", "lvlm", "trainer-api"])
def test_a_service_has_two_replicas_and_more_under_load(scaled: list[Object], service: str):
    spec = find(scaled, "HorizontalPodAutoscaler", service)["spec"]
    assert spec["scaleTargetRef"]["name"] == service
    assert 2 <= spec["minReplicas"] < spec["maxReplicas"]
    containers = {each["name"]: each for each in list_containers(list_pods(scaled)[service])}
    looked_at = {_container_of(metric, containers): _resource_of(metric) for metric in spec["metrics"]}
    # Each of a pod's containers, or one that is full would hide behind one that has nothing to do.
    assert looked_at.keys() == containers.keys()
    for name, resource in looked_at.items():
        assert resource["name"] in containers[name]["resources"]["requests"]


def _resource_of(metric: Object) -> Object:
    return metric["containerResource"] if metric["type"] == "ContainerResource" else metric["resource"]


def _container_of(metric: Object, containers: dict[str, Object]) -> str:
    """Which container a metric is about; one about the pod only where that has a single one."""
    if metric["type"] == "ContainerResource":
        return metric["containerResource"]["container"]
    (name,) = containers
    return name

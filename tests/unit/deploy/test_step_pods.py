"""A pod for each step of a job: started for what waits, never ended in mid-step, and no step is left to nobody."""

from __future__ import annotations

import copy

import pytest

from services.common.runtime.queues import QUEUES_BY_NAME
from services.trainer.settings import TrainerSettings
from tests.support.manifests import Object, find, list_pods, render_component, validate, violations


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return render_component(tmp_path_factory.mktemp("step-pods"), "autoscaling", "step-pods")


def _settings(objects: list[Object], pod: Object, monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    """As the pod's container sees them."""
    (container,) = pod["containers"]
    (source,) = container["envFrom"]
    shared = find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
    own = {each["name"]: each["value"] for each in container["env"]}
    for name, value in (shared | own).items():
        monkeypatch.setenv(name, value)
    return TrainerSettings()


@pytest.fixture
def step(objects: list[Object]) -> Object:
    return find(objects, "ScaledJob", "trainer-step")["spec"]


@pytest.fixture
def step_settings(objects: list[Object], monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    return _settings(objects, list_pods(objects)["trainer-step"], monkeypatch)


def test_a_pod_takes_one_step_and_ends_with_it(step: Object, step_settings: TrainerSettings):
    assert (step_settings.worker_queues, step_settings.worker_once) == ("jobs", True)
    assert step["jobTargetRef"]["template"]["spec"]["restartPolicy"] == "Never"
    assert step["jobTargetRef"]["backoffLimit"] == 0


def test_nothing_ends_a_pod_before_its_training_may_have_ended(step: Object, step_settings: TrainerSettings):
    assert step["rollout"]["strategy"] == "gradual"
    assert step["jobTargetRef"]["activeDeadlineSeconds"] > step_settings.training_timeout_s
    annotations = step["jobTargetRef"]["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"


def test_one_pod_is_wanted_for_each_step_that_waits_in_any_of_the_queues(step: Object, step_settings: TrainerSettings):
    triggers = [trigger["metadata"] for trigger in step["triggers"]]
    assert [trigger["listName"] for trigger in triggers] == list(QUEUES_BY_NAME[step_settings.worker_queues])
    assert {trigger["listLength"] for trigger in triggers} == {"1"}
    assert step["scalingStrategy"] == {"strategy": "accurate", "multipleScalersCalculation": "sum"}


def test_who_stays_takes_what_step_pods_leave_and_is_scaled_by_that(objects: list[Object], monkeypatch):
    settings = _settings(objects, list_pods(objects)["trainer-worker"], monkeypatch)
    assert not settings.worker_once
    queues = QUEUES_BY_NAME[settings.worker_queues]
    assert {*queues} | {*QUEUES_BY_NAME["jobs"]} == {*QUEUES_BY_NAME["all"]}
    scaled = find(objects, "ScaledObject", "trainer-worker")["spec"]
    assert [trigger["metadata"]["listName"] for trigger in scaled["triggers"]] == list(queues)


def test_the_ways_of_workers_are_open_to_step_pods_and_their_disruption_budget_counts_none(objects, step: Object):
    labels = step["jobTargetRef"]["template"]["metadata"]["labels"]
    selector = find(objects, "NetworkPolicy", "trainer-worker")["spec"]["podSelector"]["matchLabels"]
    assert selector.items() <= labels.items()
    budget = find(objects, "PodDisruptionBudget", "trainer-worker")["spec"]["selector"]["matchLabels"]
    assert not budget.items() <= labels.items()
    worker = find(objects, "Deployment", "trainer-worker")["spec"]["template"]["metadata"]["labels"]
    assert budget.items() <= worker.items()


def test_a_step_pod_is_held_to_the_policy_and_the_schema(objects: list[Object]):
    assert violations(objects) == []
    validate(objects)
    changed = copy.deepcopy(objects)
    list_pods(changed)["trainer-step"]["securityContext"]["runAsNonRoot"] = False
    assert violations(changed) == ["ScaledJob trainer-step: may run as root"]

"""A pod for each step of a job: started for what waits, never ended in mid-step, and no step is left to nobody."""

from __future__ import annotations

import copy

import pytest

from services.common.runtime.queues import QUEUES_BY_NAME
from services.trainer.settings import TrainerSettings
from tests.support.manifests import Object, render_component, validate, violations


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return render_component(tmp_path_factory.mktemp("step-pods"), "autoscaling", "step-pods")


def _find(objects: list[Object], kind: str, name: str) -> Object:
    return next(each["spec"] for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def _settings(objects: list[Object], pod: Object, monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    """As the pod's container sees them."""
    (container,) = pod["containers"]
    (source,) = container["envFrom"]
    shared = next(e["data"] for e in objects if e["metadata"]["name"] == source["configMapRef"]["name"])
    own = {each["name"]: each["value"] for each in container["env"]}
    for name, value in (shared | own).items():
        monkeypatch.setenv(name, value)
    return TrainerSettings()


@pytest.fixture
def step(objects: list[Object]) -> Object:
    return _find(objects, "ScaledJob", "trainer-step")


@pytest.fixture
def step_settings(objects: list[Object], step: Object, monkeypatch: pytest.MonkeyPatch) -> TrainerSettings:
    return _settings(objects, step["jobTargetRef"]["template"]["spec"], monkeypatch)


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
    pod = _find(objects, "Deployment", "trainer-worker")["template"]["spec"]
    settings = _settings(objects, pod, monkeypatch)
    assert not settings.worker_once
    queues = QUEUES_BY_NAME[settings.worker_queues]
    assert {*queues} | {*QUEUES_BY_NAME["jobs"]} == {*QUEUES_BY_NAME["all"]}
    scaled = _find(objects, "ScaledObject", "trainer-worker")
    assert [trigger["metadata"]["listName"] for trigger in scaled["triggers"]] == list(queues)


def test_the_ways_of_workers_are_open_to_step_pods_and_their_disruption_budget_counts_none(objects, step: Object):
    labels = step["jobTargetRef"]["template"]["metadata"]["labels"]
    selector = _find(objects, "NetworkPolicy", "trainer-worker")["podSelector"]["matchLabels"]
    assert selector.items() <= labels.items()
    budget = _find(objects, "PodDisruptionBudget", "trainer-worker")["selector"]["matchLabels"]
    assert not budget.items() <= labels.items()
    worker = _find(objects, "Deployment", "trainer-worker")["template"]["metadata"]["labels"]
    assert budget.items() <= worker.items()


def test_a_step_pod_is_held_to_the_policy_and_the_schema(objects: list[Object]):
    assert violations(objects) == []
    validate(objects)
    changed = copy.deepcopy(objects)
    step = _find(changed, "ScaledJob", "trainer-step")
    step["jobTargetRef"]["template"]["spec"]["securityContext"]["runAsNonRoot"] = False
    assert violations(changed) == ["ScaledJob trainer-step: may run as root"]

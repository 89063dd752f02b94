"""Components beside each other: each listed combination is valid, keeps the policy, loads, and names nothing that nobody brings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.support.manifests import (
    SERVICE_OF,
    SETTINGS,
    Object,
    find,
    list_pods,
    load_settings,
    render_component,
    validate,
    violations,
)

COMBINATIONS = [
    "external-redis s3-store tracing external-lvlm",
    "autoscaling external-redis redis-tls-keda external-redis-keda",
    "autoscaling step-pods external-redis redis-tls-keda external-redis-keda",
    "autoscaling redis-tls redis-tls-keda monitoring",
    "autoscaling step-pods s3-store gpu vllm tls redis-tls redis-tls-keda tracing monitoring",
]
ROLES = {"name": "plumbline-roles", "literals": ["roles.yaml="], "options": {"disableNameSuffixHash": True}}
VLLM = {"name": "vllm/vllm-openai", "newTag": "v0.11.0"}
TLS = {"explainer-tls", "lvlm-tls", "trainer-tls", "redis-server", "trainer-redis", "lvlm-redis"}
BROUGHT = {"Secret": TLS | {"store-credentials", "lvlm-engine"}, "PersistentVolumeClaim": {"vllm-weights"}}
"""What the components say that the overlay brings."""
LAST_WORDS_S = 10
"""What comes before and after the drain: a second in which calls are taken up, five for the last traces."""
ADDRESS = "redis.hospital.internal:6380"
EXTERNAL_REDIS = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "external-redis"},
    "data": {"address": ADDRESS},
}


@pytest.fixture(scope="module", params=COMBINATIONS)
def components(request: pytest.FixtureRequest) -> list[str]:
    return request.param.split()


@pytest.fixture(scope="module")
def objects(components: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    folder = tmp_path_factory.mktemp("combined")
    (folder / "external-redis.yaml").write_text(yaml.safe_dump(EXTERNAL_REDIS))
    more = {"configMapGenerator": [ROLES], "images": [VLLM], "resources": ["external-redis.yaml"]}
    return render_component(folder, *components, **more)


def _named(pod: Object) -> Iterator[tuple[str, str]]:
    """Kind and name of what a pod is made with."""
    for volume in pod.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
    for source in pod["containers"][0].get("envFrom", []):
        yield "ConfigMap", source["configMapRef"]["name"]
    yield "ServiceAccount", pod["serviceAccountName"]


def test_it_is_valid_and_keeps_the_policy(objects: list[Object]):
    validate(objects)
    assert violations(objects) == []


def test_a_pod_names_nothing_that_nobody_brings(objects: list[Object]):
    there = {(each["kind"], each["metadata"]["name"]) for each in objects}
    there |= {(kind, name) for kind, names in BROUGHT.items() for name in names}
    pods = list_pods(objects).items()
    assert {(pod, *named) for pod, spec in pods for named in _named(spec) if named not in there} == set()


def test_keda_asks_a_redis_with_users_as_one_of_them_whatever_it_asks_for(objects: list[Object], components: list[str]):
    secured = any(each["kind"] == "TriggerAuthentication" for each in objects)
    asked = {
        (each["metadata"]["name"], trigger["metadata"]["listName"]): trigger.get("authenticationRef")
        for each in objects
        if each["kind"] in ("ScaledObject", "ScaledJob")
        for trigger in each["spec"]["triggers"]
    }
    assert bool(asked) == ("autoscaling" in components)
    assert set(map(str, asked.values())) <= {str({"name": "redis"} if secured else None)}, asked


def test_keda_asks_the_redis_that_there_is(objects: list[Object], components: list[str]):
    services = {each["metadata"]["name"] for each in objects if each["kind"] == "Service"}
    expected = "redis.plumbline.svc:6379" if "redis" in services else ADDRESS
    asked = [
        trigger["metadata"]["address"]
        for each in objects
        if each["kind"] in ("ScaledObject", "ScaledJob")
        for trigger in each["spec"]["triggers"]
    ]
    assert set(asked) == ({expected} if "autoscaling" in components else set())


def test_every_file_that_settings_name_is_mounted_where_they_say(objects: list[Object]):
    for name, pod in list_pods(objects).items():
        container = pod["containers"][0]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for source in container.get("envFrom", []):
            data = find(objects, "ConfigMap", source["configMapRef"]["name"])["data"]
            folders = {value.rpartition("/")[0] for value in data.values() if value.startswith("/etc/plumbline/")}
            assert folders <= mounts, name


@pytest.mark.parametrize("service", SETTINGS)
def test_settings_load_through_the_services_class(objects: list[Object], service: str, monkeypatch: pytest.MonkeyPatch):
    assert load_settings(objects, service, monkeypatch).listen


def test_whoever_may_be_called_in_the_namespace_is_there(objects: list[Object]):
    services = {each["metadata"]["name"] for each in objects if each["kind"] == "Service"}
    called = {name for each in objects if each["kind"] == "NetworkPolicy" for name in _called(each)}
    assert called <= services
    assert len(called) >= 3


def _called(policy: Object) -> Iterator[str]:
    for rule in policy["spec"].get("egress", []):
        for peer in rule["to"]:
            if "podSelector" in peer and "namespaceSelector" not in peer:
                yield peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"]


@pytest.mark.parametrize("deployment", SERVICE_OF)
def test_a_pod_that_ends_is_not_killed_while_it_answers(
    objects: list[Object], deployment: str, monkeypatch: pytest.MonkeyPatch
):
    pod = list_pods(objects)[deployment]
    settings = load_settings(objects, SERVICE_OF[deployment], monkeypatch)
    asleep_s = sum(
        each.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0) for each in pod["containers"]
    )
    assert pod["terminationGracePeriodSeconds"] >= asleep_s + settings.drain_s + LAST_WORDS_S


def test_a_language_models_server_is_waited_for_when_the_service_before_it_ends(
    objects: list[Object], components: list[str], monkeypatch: pytest.MonkeyPatch
):
    settings = load_settings(objects, "lvlm", monkeypatch)
    assert (settings.engine == "openai") == bool({"vllm", "external-lvlm"} & set(components))
    if settings.engine == "openai":
        assert settings.drain_s >= settings.answer_timeout_s


def test_redis_is_full_before_its_container_or_its_volume_is(objects: list[Object]):
    if "redis" not in list_pods(objects):
        return
    (container,) = list_pods(objects)["redis"]["containers"]
    claim = find(objects, "PersistentVolumeClaim", "plumbline-redis")
    words = container["args"]
    most_mb = int(words[words.index("--maxmemory") + 1].removesuffix("mb"))
    # A fork that writes the file anew may double what is taken; beside the file of twice the size lies the new one.
    assert 2 * most_mb <= int(container["resources"]["limits"]["memory"].removesuffix("Mi"))
    assert 3 * most_mb <= 1024 * int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))

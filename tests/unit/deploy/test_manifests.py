"""The manifests render, are valid, and keep the policy; a planted violation of each point is caught."""

import copy
from collections.abc import Callable

import pytest

from services.explainer.servicer import SERVICE
from tests.support.manifests import (
    DRAIN_S,
    K8S,
    SETTINGS,
    Object,
    find,
    find_variables,
    list_pods,
    load_settings,
    render,
    validate,
    violations,
)

OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))


@pytest.fixture(scope="module")
def local() -> list[Object]:
    return render(K8S / "overlays" / "local-cpu")


@pytest.mark.parametrize("folder", [K8S / "base", *OVERLAYS], ids=lambda folder: folder.name)
def test_every_object_is_valid(folder):
    objects = render(folder)
    validate(objects)
    assert {each["metadata"]["name"] for each in objects if each["kind"] == "Deployment"} >= {
        "explainer",
        "lvlm",
        "trainer-api",
        "trainer-worker",
        "redis",
    }


@pytest.mark.parametrize("folder", OVERLAYS, ids=lambda folder: folder.name)
def test_overlay_keeps_the_policy(folder):
    assert violations(render(folder)) == []


def test_base_keeps_the_policy_and_leaves_tags_to_overlays():
    assert violations(render(K8S / "base"), with_tags=False) == []


@pytest.mark.parametrize("service", SETTINGS)
def test_settings_load_through_the_services_class(service, local, monkeypatch):
    settings = load_settings(local, service, monkeypatch)
    assert settings.listen.startswith("0.0.0.0:")
    assert settings.drain_s <= DRAIN_S


def test_probes_ask_the_port_that_the_service_listens_on(local):
    for name, deployment in (("explainer", "explainer"), ("lvlm", "lvlm"), ("trainer", "trainer-api")):
        port = list_pods(local)[deployment]["containers"][0]["readinessProbe"]["grpc"]["port"]
        assert find_variables(local, name)[f"{name.upper()}_LISTEN"] == f"0.0.0.0:{port}"


def test_a_replica_of_the_explainer_is_asked_once_its_own_triton_can_answer(local):
    explainer = list_pods(local)["explainer"]
    (triton,) = explainer["initContainers"]
    assert triton["restartPolicy"] == "Always"
    address = find_variables(local, "explainer")["EXPLAINER_TRITON_ADDRESS"]
    command = ["python", "-m", "plumbline.health", address]
    assert [triton[probe]["exec"]["command"] for probe in ("startupProbe", "livenessProbe")] == [command, command]
    assert "ports" not in triton
    (container,) = explainer["containers"]
    assert container["readinessProbe"]["grpc"]["service"] == SERVICE
    assert "service" not in container["livenessProbe"]["grpc"] | container["startupProbe"]["grpc"]


def pod(objects: list[Object]) -> Object:
    return next(each for each in objects if each["kind"] == "Deployment")["spec"]["template"]["spec"]


def container(objects: list[Object]) -> Object:
    return pod(objects)["containers"][0]


def sidecar(objects: list[Object]) -> Object:
    return pod(objects)["initContainers"][0]


def drop(objects: list[Object], kind: str, index: int = 0) -> None:
    found = [each for each in objects if each["kind"] == kind]
    objects.remove(found[index])


def without_deny_all(objects: list[Object]) -> None:
    objects.remove(find(objects, "NetworkPolicy", "deny-all"))


def mount_secret(
    objects: list[Object],
    mode: int = 0o440,
    is_read_only: bool = True,
    into: Callable[[list[Object]], Object] = container,
) -> None:
    pod(objects)["volumes"].append({"name": "x", "secret": {"secretName": "x", "defaultMode": mode}})
    into(objects)["volumeMounts"].append({"name": "x", "mountPath": "/x", "readOnly": is_read_only})


PLANTED: dict[str, Callable[[list[Object]], object]] = {
    "root": lambda objects: pod(objects)["securityContext"].update(runAsNonRoot=False),
    "seccomp": lambda objects: pod(objects)["securityContext"].pop("seccompProfile"),
    "token": lambda objects: pod(objects).update(automountServiceAccountToken=True),
    "service links": lambda objects: pod(objects).pop("enableServiceLinks"),
    "account": lambda objects: pod(objects).update(serviceAccountName="default"),
    "sleep": lambda objects: container(objects).pop("lifecycle"),
    "grace after sleep": lambda objects: pod(objects).update(terminationGracePeriodSeconds=DRAIN_S + 5),
    "grace": lambda objects: pod(objects).update(terminationGracePeriodSeconds=5),
    "file system": lambda objects: container(objects)["securityContext"].update(readOnlyRootFilesystem=False),
    "privileges": lambda objects: container(objects)["securityContext"].update(allowPrivilegeEscalation=True),
    "capabilities": lambda objects: container(objects)["securityContext"].update(capabilities={}),
    "network of the node": lambda objects: pod(objects).update(hostNetwork=True),
    "path of the node": lambda objects: pod(objects)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "spread": lambda objects: pod(objects).pop("topologySpreadConstraints"),
    "secret as a variable": lambda objects: container(objects).update(
        env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "x", "key": "x"}}}]
    ),
    "secret as variables": lambda objects: container(objects)["envFrom"].append({"secretRef": {"name": "x"}}),
    "secret for all": lambda objects: mount_secret(objects, mode=0o444),
    "secret to write": lambda objects: mount_secret(objects, is_read_only=False),
    "public address": lambda objects: find(objects, "NetworkPolicy", "redis")["spec"].update(
        egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]
    ),
    "limits": lambda objects: container(objects)["resources"].pop("limits"),
    "probe": lambda objects: container(objects).pop("livenessProbe"),
    "worker's probe": lambda objects: list_pods(objects)["trainer-worker"]["containers"][0].pop("livenessProbe"),
    "sidecar's start": lambda objects: sidecar(objects).pop("startupProbe"),
    "sidecar's life": lambda objects: sidecar(objects).pop("livenessProbe"),
    "sidecar's file system": lambda objects: sidecar(objects)["securityContext"].pop("readOnlyRootFilesystem"),
    "sidecar's secret to write": lambda objects: mount_secret(objects, is_read_only=False, into=sidecar),
    "latest": lambda objects: container(objects).update(image="plumbline/explainer:latest"),
    "no tag": lambda objects: container(objects).update(image="plumbline/explainer"),
    "replicas": lambda objects: next(e for e in objects if e["kind"] == "Deployment")["spec"].update(replicas=3),
    "deny-all": without_deny_all,
    "own policy": lambda objects: drop(objects, "NetworkPolicy", -1),
    "one-sided way": lambda objects: find(objects, "NetworkPolicy", "plumbline-client")["spec"]["egress"].pop(0),
    "closed port": lambda objects: find(objects, "NetworkPolicy", "redis")["spec"]["ingress"][0].update(
        ports=[{"port": 1}]
    ),
    "budget": lambda objects: drop(objects, "PodDisruptionBudget"),
    "account token": lambda objects: next(e for e in objects if e["kind"] == "ServiceAccount").pop(
        "automountServiceAccountToken"
    ),
}


@pytest.mark.parametrize("plant", PLANTED)
def test_planted_violation_is_caught(plant, local):
    objects = copy.deepcopy(local)
    PLANTED[plant](objects)
    assert violations(objects) != []


def test_a_secret_that_is_mounted_as_it_should_be_is_no_violation(local):
    objects = copy.deepcopy(local)
    mount_secret(objects)
    assert violations(objects) == []


@pytest.mark.parametrize("service", SETTINGS)
def test_a_misspelt_variable_in_a_configuration_is_refused(service, local, monkeypatch):
    misspelt = f"{service.upper()}_LISTENS"
    monkeypatch.setenv(misspelt, "x")
    with pytest.raises(ValueError, match=f"unknown setting {misspelt}"):
        load_settings(local, service, monkeypatch)

"""Rendered manifests, and the policy that they are held to."""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.common.runtime.settings import ServiceSettings
from services.explainer.settings import ExplainerSettings
from services.lvlm.settings import LvlmSettings
from services.trainer.settings import TrainerSettings

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
DRAIN_S = 10
FOREIGN_KINDS = ("ScaledObject", "ScaledJob", "TriggerAuthentication", "PodMonitor", "PrometheusRule")
"""KEDA's and the Prometheus operator's own, whose schemas are not part of Kubernetes."""
KUBERNETES_VERSION = "1.31"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "explainer": ExplainerSettings,
    "lvlm": LvlmSettings,
    "trainer": TrainerSettings,
}
"""What reads the variables of a service's pods."""
SERVICE_OF = {"explainer": "explainer", "lvlm": "lvlm", "trainer-api": "trainer", "trainer-worker": "trainer"}
"""The service that each deployment of ours runs a part of, and by whose settings."""
Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """Objects of a kustomization."""
    if shutil.which("kubectl") is None:
        raise RuntimeError("kubectl is missing; the manifests can't be checked without it")
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return [content for content in yaml.safe_load_all(result.stdout) if content]


def render_component(folder: Path, *components: str, **more: Any) -> list[Object]:
    """Objects of an overlay with components in this order and the local one's image tags, with what `more` adds to the kustomization that is written into `folder`."""
    # Kustomize refuses absolute paths, and relative ones by way of a link.
    real = Path(os.path.realpath(folder))
    base, *places = (
        os.path.relpath(K8S / path, real) for path in ("base", *(f"components/{each}" for each in components))
    )
    local = yaml.safe_load((K8S / "overlays" / "local-cpu" / "kustomization.yaml").read_text())
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": local["namespace"],
        "images": [*local["images"], *more.pop("images", [])],
        "resources": [base, *more.pop("resources", [])],
        "components": places,
    }
    (real / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more))
    return render(real)


def find(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def find_variables(objects: Sequence[Object], service: str) -> dict[str, str]:
    """The variables of a service's settings, whose ConfigMap is named after them and what they hold."""
    return next(each["data"] for each in objects if each["metadata"]["name"].startswith(f"{service}-settings"))


def load_settings(objects: Sequence[Object], service: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service's settings as its own class reads them; the variables stay set."""
    for name, value in find_variables(objects, service).items():
        monkeypatch.setenv(name, value)
    return SETTINGS[service]()


def list_pods(objects: Sequence[Object]) -> dict[str, Object]:
    """What the pods of each Deployment and each ScaledJob are made of, by its name."""
    made = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Deployment"}
    started = {
        each["metadata"]["name"]: each["spec"]["jobTargetRef"] for each in objects if each["kind"] == "ScaledJob"
    }
    return {name: spec["template"]["spec"] for name, spec in (made | started).items()}


def list_containers(pod: Object) -> list[Object]:
    """All containers of a pod in the order of their starts, sidecars among them."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def validate(objects: list[Object]) -> None:
    """Hold all but the foreign kinds to Kubernetes' schemas; raises what `kubernetes_validate` does. The job in a ScaledJob is one of Kubernetes' own."""
    for each in objects:
        if each["kind"] == "ScaledJob":
            spec = each["spec"]["jobTargetRef"]
            job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": each["metadata"], "spec": spec}
            kubernetes_validate.validate(job, KUBERNETES_VERSION, strict=True)
        elif each["kind"] not in FOREIGN_KINDS:
            kubernetes_validate.validate(each, KUBERNETES_VERSION, strict=True)


def violations(objects: list[Object], with_tags: bool = True) -> list[str]:
    """What breaks the policy, as "<kind> <name>: <what>"; `with_tags` is for overlays, where image tags are set."""
    found = [
        f"{_title(each)}: {what}"
        for each in objects
        if each["kind"] == "Deployment"
        for what in [*_of_deployment(each), *_of_pod(each["spec"]["template"]["spec"], with_tags)]
    ]
    found += [
        f"{_title(each)}: {what}"
        for each in objects
        if each["kind"] == "ScaledJob"
        for what in _of_pod(each["spec"]["jobTargetRef"]["template"]["spec"], with_tags)
    ]
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    if not any(each["spec"]["podSelector"] == {} for each in policies):
        found.append("NetworkPolicy: there is no deny-all")
    found += _one_sided_ways(policies)
    found += [
        f"{_title(each)}: {block['cidr']} is a public address"
        for each in policies
        for block in _blocks(each)
        if not ipaddress.ip_network(block["cidr"]).is_private
    ]
    covered = {_name(each["spec"]["podSelector"].get("matchLabels", {})) for each in policies}
    budgets = {
        _name(each["spec"]["selector"]["matchLabels"]) for each in objects if each["kind"] == "PodDisruptionBudget"
    }
    for each in objects:
        if each["kind"] == "Deployment":
            name = _name(each["spec"]["template"]["metadata"]["labels"])
            found += [f"{_title(each)}: no network policy of its own"] if name not in covered else []
            found += [f"{_title(each)}: no disruption budget"] if name not in budgets else []
        if each["kind"] == "ServiceAccount" and each.get("automountServiceAccountToken") is not False:
            found.append(f"{_title(each)}: its token is mounted")
    return found


def _one_sided_ways(policies: list[Object]) -> list[str]:
    """Ways that one end allows and the other does not: nothing would get through."""
    into = {way for policy in policies for way in _ways(policy, "ingress", "from")}
    out = {(caller, called, port) for policy in policies for called, caller, port in _ways(policy, "egress", "to")}
    return [
        f"NetworkPolicy: {caller} to {called} on {port} is allowed at one end only"
        for caller, called, port in sorted(into ^ out)
    ]


def _ways(policy: Object, direction: str, peers: str) -> Iterator[tuple[str, str, int]]:
    """(peer, own, port) of every rule about pods of this namespace."""
    own = _name(policy["spec"]["podSelector"].get("matchLabels", {}))
    for rule in policy["spec"].get(direction, []):
        for peer in rule.get(peers, []):
            if "podSelector" in peer and "namespaceSelector" not in peer:
                name = _name(peer["podSelector"]["matchLabels"])
                yield from ((name, own, port["port"]) for port in rule["ports"])


def _blocks(policy: Object) -> Iterator[Object]:
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for rule in policy["spec"].get(direction, []):
            yield from (peer["ipBlock"] for peer in rule.get(peers, []) if "ipBlock" in peer)


def _of_deployment(deployment: Object) -> list[str]:
    spec = deployment["spec"]["template"]["spec"]
    found = []
    if "replicas" in deployment["spec"]:
        found.append("a replica count in the manifest fights the autoscaler")
    asleep_s = sum(_sleep_s(container) for container in list_containers(spec))
    if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "service" and not asleep_s:
        found.append("drains before callers know that it goes")
    has_gpu = any("nvidia.com/gpu" in each.get("resources", {}).get("limits", {}) for each in list_containers(spec))
    if has_gpu and deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
        found.append("a rollout waits for the GPU that the old pod has")
    return found


def _of_pod(spec: Object, with_tags: bool) -> list[str]:
    found = []
    if spec.get("automountServiceAccountToken") is not False:
        found.append("its token is mounted")
    if spec.get("enableServiceLinks") is not False:
        # They would set variables such as EXPLAINER_PORT, which the services refuse as misspelt settings.
        found.append("service links add variables")
    if spec.get("serviceAccountName", "default") == "default":
        found.append("no service account of its own")
    if any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("shares what is the node's")
    if not spec.get("securityContext", {}).get("runAsNonRoot"):
        found.append("may run as root")
    if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    if not spec.get("topologySpreadConstraints"):
        found.append("may stand all on one node")
    asleep_s = sum(_sleep_s(container) for container in list_containers(spec))
    if spec.get("terminationGracePeriodSeconds", 0) <= DRAIN_S + asleep_s:
        found.append("the grace period is not longer than the drain")
    found += _of_volumes(spec)
    for container in list_containers(spec):
        found += _of_container(container, with_tags)
    return found


def _of_volumes(spec: Object) -> list[str]:
    """Secrets come as files that others can't read and nobody can write; nothing is the node's."""
    found = []
    volumes = spec.get("volumes", [])
    if any("hostPath" in volume for volume in volumes):
        found.append("mounts a path of the node")
    secrets = {volume["name"]: volume["secret"] for volume in volumes if "secret" in volume}
    if any(secret.get("defaultMode", 0o644) & 0o337 for secret in secrets.values()):
        found.append("others may read a secret's files, or somebody write them")
    mounts = [mount for container in list_containers(spec) for mount in container.get("volumeMounts", [])]
    if any(mount["name"] in secrets and not mount.get("readOnly") for mount in mounts):
        found.append("a secret is not mounted read-only")
    return found


def _sleep_s(container: Object) -> int:
    return container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)


def _of_container(container: Object, with_tags: bool) -> list[str]:
    found = []
    security = container.get("securityContext", {})
    if not security.get("readOnlyRootFilesystem"):
        found.append("the root file system can be written")
    if security.get("allowPrivilegeEscalation") is not False or security.get("capabilities", {}).get("drop") != ["ALL"]:
        found.append("keeps privileges")
    variables = container.get("env", []) + container.get("envFrom", [])
    if any({"secretKeyRef", "secretRef"} & ({*each} | {*each.get("valueFrom", {})}) for each in variables):
        found.append("a secret is a variable")
    resources = container.get("resources", {})
    if any({"cpu", "memory"} - set(resources.get(kind, {})) for kind in ("requests", "limits")):
        found.append("no requests and limits for cpu and memory")
    probes = {"startupProbe", "livenessProbe"} | ({"readinessProbe"} if container.get("ports") else set())
    if probes - set(container):
        found.append("a probe is missing")
    tag = container["image"].partition(":")[2]
    if with_tags and (not tag or tag == "latest"):
        found.append("the image has no fixed tag")
    return found


def _title(each: Object) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def _name(labels: dict[str, str]) -> str | None:
    return labels.get("app.kubernetes.io/name")

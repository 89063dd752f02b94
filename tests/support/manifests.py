"""Rendered manifests, and the policy that they are held to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
DRAIN_S = 10
Object = dict[str, Any]


def render(folder: Path) -> list[Object]:
    """Objects of a kustomization."""
    if shutil.which("kubectl") is None:
        raise RuntimeError("kubectl is missing; the manifests can't be checked without it")
    result = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(result.stderr)
    return [content for content in yaml.safe_load_all(result.stdout) if content]


def render_component(folder: Path, component: str, **more: Any) -> list[Object]:
    """Objects of the local overlay with one of the components, and with what `more` adds to the kustomization that is written into `folder`."""
    # Kustomize refuses absolute paths, and relative ones by way of a link.
    real = Path(os.path.realpath(folder))
    overlay, place = (os.path.relpath(K8S / path, real) for path in ("overlays/local-cpu", f"components/{component}"))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [overlay],
        "components": [place],
    }
    (real / "kustomization.yaml").write_text(yaml.safe_dump(kustomization | more))
    return render(real)


def violations(objects: list[Object], with_tags: bool = True) -> list[str]:
    """What breaks the policy, as "<kind> <name>: <what>"; `with_tags` is for overlays, where image tags are set."""
    found = [
        f"{_title(each)}: {what}"
        for each in objects
        if each["kind"] == "Deployment"
        for what in _of_deployment(each, with_tags)
    ]
    policies = [each for each in objects if each["kind"] == "NetworkPolicy"]
    if not any(each["spec"]["podSelector"] == {} for each in policies):
        found.append("NetworkPolicy: there is no deny-all")
    found += _one_sided_ways(policies)
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
            if "namespaceSelector" not in peer:
                name = _name(peer["podSelector"]["matchLabels"])
                yield from ((name, own, port["port"]) for port in rule["ports"])


def _of_deployment(deployment: Object, with_tags: bool) -> list[str]:
    spec = deployment["spec"]["template"]["spec"]
    found = []
    if "replicas" in deployment["spec"]:
        found.append("a replica count in the manifest fights the autoscaler")
    if spec.get("automountServiceAccountToken") is not False:
        found.append("its token is mounted")
    if spec.get("enableServiceLinks") is not False:
        # They would set variables such as EXPLAINER_PORT, which the services refuse as misspelt settings.
        found.append("service links add variables")
    if spec.get("serviceAccountName", "default") == "default":
        found.append("no service account of its own")
    if not spec.get("securityContext", {}).get("runAsNonRoot"):
        found.append("may run as root")
    if spec.get("securityContext", {}).get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    asleep_s = sum(_sleep_s(container) for container in spec["containers"])
    if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "service" and not asleep_s:
        found.append("drains before callers know that it goes")
    if spec.get("terminationGracePeriodSeconds", 0) <= DRAIN_S + asleep_s:
        found.append("the grace period is not longer than the drain")
    for container in spec["containers"]:
        found += _of_container(container, with_tags)
        has_gpu = "nvidia.com/gpu" in container.get("resources", {}).get("limits", {})
        if has_gpu and deployment["spec"].get("strategy", {}).get("rollingUpdate", {}).get("maxSurge") != 0:
            found.append("a rollout waits for the GPU that the old pod has")
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
    resources = container.get("resources", {})
    if any({"cpu", "memory"} - set(resources.get(kind, {})) for kind in ("requests", "limits")):
        found.append("no requests and limits for cpu and memory")
    if container.get("ports") and {"startupProbe", "readinessProbe", "livenessProbe"} - set(container):
        found.append("a probe is missing")
    tag = container["image"].partition(":")[2]
    if with_tags and (not tag or tag == "latest"):
        found.append("the image has no fixed tag")
    return found


def _title(each: Object) -> str:
    return f"{each['kind']} {each['metadata']['name']}"


def _name(labels: dict[str, str]) -> str | None:
    return labels.get("app.kubernetes.io/name")

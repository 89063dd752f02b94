"""Nothing of the cut-off overlay comes from outside or speaks to it, and no way in it is unguarded."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.runtime.roles import Role, read_roles
from tests.support.manifests import K8S, SETTINGS, Object, find, list_containers, list_pods, load_settings, render

REGISTRY = "registry.hospital.internal/"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render(K8S / "overlays" / "hospital-airgap")


def test_every_image_comes_from_the_houses_registry_and_every_account_may_pull_there(objects: list[Object]):
    pods = list_pods(objects).values()
    images = [container["image"] for pod in pods for container in list_containers(pod)]
    assert len(images) == 7
    assert all(image.startswith(REGISTRY) for image in images)
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    assert {pod["serviceAccountName"] for pod in pods} <= {each["metadata"]["name"] for each in accounts}
    assert all(each["imagePullSecrets"] == [{"name": "registry-pull"}] for each in accounts)


def test_no_policy_lets_anything_out_of_the_namespace_but_to_ask_for_names(objects: list[Object]):
    rules = [rule for each in objects if each["kind"] == "NetworkPolicy" for rule in each["spec"].get("egress", [])]
    out = [rule for rule in rules for peer in rule["to"] if "podSelector" not in peer or "namespaceSelector" in peer]
    assert rules
    assert {port["port"] for rule in out for port in rule["ports"]} == {53}


def test_every_service_asks_for_certificates_and_speaks_tls_to_redis(objects, monkeypatch: pytest.MonkeyPatch):
    settings = {service: load_settings(objects, service, monkeypatch) for service in SETTINGS}
    assert all(each.certificates is not None for each in settings.values())
    assert settings["lvlm"].broker_authority
    assert settings["trainer"].broker_authority


def test_the_roles_that_it_begins_with_let_the_trainer_publish_and_nobody_else_do_anything(
    objects: list[Object], tmp_path: Path
):
    roles = find(objects, "ConfigMap", "plumbline-roles")["data"]
    (tmp_path / "roles.yaml").write_text(roles["roles.yaml"])
    assert read_roles(tmp_path / "roles.yaml", "roles") == {"trainer": Role.PUBLISHER}

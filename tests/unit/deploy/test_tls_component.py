"""With the component every gRPC port asks for certificates, and who calls one has its own."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.support.manifests import (
    K8S,
    SERVICE_OF,
    SETTINGS,
    Object,
    find_variables,
    list_pods,
    load_settings,
    render,
    render_component,
    validate,
    violations,
)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The local overlay with the component, and the roles that it asks for."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "roles.yaml").write_text("publisher: [trainer]")
    roles = {"name": "plumbline-roles", "files": ["roles.yaml"], "options": {"disableNameSuffixHash": True}}
    return render_component(folder, "tls", configMapGenerator=[roles])


@pytest.fixture(scope="module")
def plain_pods() -> dict[str, Object]:
    return list_pods(render(K8S / "overlays" / "local-cpu"))


@pytest.mark.parametrize("deployment", SERVICE_OF)
def test_every_file_that_the_settings_name_is_mounted(secured, deployment):
    pod, service = list_pods(secured)[deployment], SERVICE_OF[deployment]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    named = {
        name: PurePosixPath(value)
        for name, value in find_variables(secured, service).items()
        if f"{service.upper()}_TLS_" in name
    }
    assert len(named) == 4
    roles = named.pop(f"{service.upper()}_TLS_ROLES")
    assert mounted[str(roles.parent)]["configMap"]["name"] == "plumbline-roles"
    assert {mounted[str(path.parent)]["secret"]["secretName"] for path in named.values()} == {f"{service}-tls"}
    assert {path.name for path in named.values()} == {"tls.crt", "tls.key", "ca.crt"}


@pytest.mark.parametrize("service", SETTINGS)
def test_settings_load_with_tls_on(secured, service, monkeypatch):
    assert load_settings(secured, service, monkeypatch).certificates is not None


def test_secrets_and_roles_have_no_default(secured):
    assert not [each for each in secured if each["kind"] == "Secret"]
    assert not list((K8S / "components" / "tls").glob("roles*"))


@pytest.mark.parametrize("deployment", ["explainer", "lvlm", "trainer-api"])
def test_probes_come_with_the_services_own_certificate_and_ask_what_those_without_ask(secured, plain_pods, deployment):
    plain = plain_pods[deployment]["containers"][0]
    container, prefix = list_pods(secured)[deployment]["containers"][0], f"{SERVICE_OF[deployment].upper()}_TLS_"
    port = container["ports"][0]["containerPort"]
    probe_command = ["python", "-m", "plumbline.health", f"localhost:{port}"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = plain[probe]["grpc"].get("service")
        which = ["--service", asked] if asked else []
        assert container[probe]["exec"] == {"command": [*probe_command, *which, "--certificates", prefix]}
        assert "grpc" not in container[probe]


def test_what_is_secured_keeps_the_policy_and_is_valid(secured):
    assert violations(secured) == []
    validate(secured)

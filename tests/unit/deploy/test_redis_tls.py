"""With the component Redis speaks TLS alone, and whoever calls it has a user and certificates from a secret of its own."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from tests.support.manifests import (
    K8S,
    SERVICE_OF,
    Object,
    find_variables,
    list_pods,
    load_settings,
    render,
    render_component,
    validate,
    violations,
)

CALLERS = {deployment: service for deployment, service in SERVICE_OF.items() if service != "explainer"}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    """The local overlay with the component."""
    return render_component(tmp_path_factory.mktemp("redis-tls"), "redis-tls")


def _mounted_secrets(pod: Object) -> dict[str, str]:
    """Names of secrets by where they are mounted."""
    names = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    mounts = pod["containers"][0]["volumeMounts"]
    return {mount["mountPath"]: names[mount["name"]] for mount in mounts if mount["name"] in names}


def test_redis_listens_under_tls_alone_where_its_service_expects_it_and_keeps_what_it_kept(secured: list[Object]):
    pod = list_pods(secured)["redis"]
    arguments = pod["containers"][0]["args"]
    options = dict(zip(arguments[1::2], arguments[2::2], strict=True))
    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    files = {
        PurePosixPath(value).parent
        for name, value in options.items()
        if name.startswith(("--tls-c", "--tls-k", "--acl"))
    }
    assert {_mounted_secrets(pod)[str(folder)] for folder in files} == {"redis-server"}
    plain = list_pods(render(K8S / "overlays" / "local-cpu"))["redis"]["containers"][0]["args"]
    assert arguments[: len(plain)] == plain


@pytest.mark.parametrize("deployment", CALLERS)
def test_every_file_that_a_callers_settings_name_is_in_its_own_secret(secured: list[Object], deployment: str):
    service = CALLERS[deployment]
    prefix = f"{service.upper()}_BROKER_"
    named = {name: value for name, value in find_variables(secured, service).items() if name.startswith(prefix)}
    assert named.pop(f"{prefix}URL") == ""
    assert len(named) == 4
    secrets = _mounted_secrets(list_pods(secured)[deployment])
    assert {secrets[str(PurePosixPath(value).parent)] for value in named.values()} == {f"{service}-redis"}


@pytest.mark.parametrize("service", ["lvlm", "trainer"])
def test_settings_load_and_know_of_a_broker(secured: list[Object], service: str, monkeypatch: pytest.MonkeyPatch):
    assert load_settings(secured, service, monkeypatch).has_broker


def test_it_keeps_the_policy_is_valid_and_brings_no_secret(secured: list[Object]):
    assert violations(secured) == []
    assert not [each for each in secured if each["kind"] == "Secret"]
    validate(secured)

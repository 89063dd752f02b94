"""`plumbline up` starts what the manifests do, with the same settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Command
from tests.support.manifests import K8S, SERVICE_OF, SETTINGS, Object, render


@pytest.fixture(scope="module")
def deployments() -> dict[str, Object]:
    return {each["metadata"]["name"]: each for each in render(K8S / "base") if each["kind"] == "Deployment"}


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Command]:
    """Those of a stack that nobody has set anything for."""
    for name in list(os.environ):
        if name.startswith(("EXPLAINER_", "LVLM_", "TRAINER_", "AWS_", "PLUMBLINE_")):
            monkeypatch.delenv(name)
    return {command.name: command for command in StackLayout.on_free_ports(tmp_path).commands()}


def arguments(deployment: Object) -> list[str]:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container.get("args", [])


def settings_of(service: str) -> dict[str, str]:
    lines = (K8S / "base" / service / "settings.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_the_same_processes_run(deployments, commands):
    sidecars = [
        each["name"]
        for deployment in deployments.values()
        for each in deployment["spec"]["template"]["spec"].get("initContainers", [])
    ]
    assert commands.keys() == {*deployments, *sidecars}


@pytest.mark.parametrize("name", SERVICE_OF)
def test_a_service_runs_the_same_part(name, deployments, commands):
    module = f"services.{SERVICE_OF[name]}"
    ran = list(commands[name].arguments)
    assert ran[ran.index(module) + 1 :] == arguments(deployments[name])


@pytest.mark.parametrize("name", SERVICE_OF)
def test_the_same_settings_are_given_but_for_defaults_that_the_manifests_spell_out(name, commands, monkeypatch):
    service, prefix = SERVICE_OF[name], f"{SERVICE_OF[name].upper()}_"
    here = {variable: value for variable, value in commands[name].environment.items() if variable.startswith(prefix)}
    there = settings_of(service)
    for variable, value in here.items():
        monkeypatch.setenv(variable, value)
    settings = SETTINGS[service]()
    assert here.keys() - there.keys() == set()
    for variable in there.keys() - here.keys():
        assert str(getattr(settings, variable.removeprefix(prefix).lower())) == there[variable], variable


def test_redis_keeps_the_same(deployments, commands):
    def options(words: list[str]) -> dict[str, str]:
        return {word: words[place + 1] for place, word in enumerate(words) if word.startswith("--")}

    here, there = options(list(commands["redis"].arguments)), options(arguments(deployments["redis"]))
    for name in ("--appendonly", "--save", "--maxmemory-policy"):
        assert here[name] == there[name]

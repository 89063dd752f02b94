"""Which settings the processes of a local stack get."""

from __future__ import annotations

from pathlib import Path

import pytest

from plumbline.stack.layout import StackLayout


def test_settings_of_the_environment_reach_their_service_but_not_over_the_stacks_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TRAINER_LEASE_S", "3")
    monkeypatch.setenv("TRAINER_STORE_ROOT", "elsewhere")
    monkeypatch.setenv("LVLM_ENGINE_URL", "http://127.0.0.1:1")
    environments = {command.name: command.environment for command in StackLayout.on_free_ports(tmp_path).commands()}
    assert environments["trainer-worker"]["TRAINER_LEASE_S"] == "3"
    assert environments["trainer-worker"]["TRAINER_STORE_ROOT"] == str(tmp_path / "store")
    assert environments["lvlm"]["LVLM_ENGINE_URL"] == "http://127.0.0.1:1"
    assert "TRAINER_LEASE_S" not in environments["explainer"]


def test_a_stack_in_a_bucket_tells_its_services_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PLUMBLINE_STORE", "s3://bucket/prefix")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    environments = {command.name: command.environment for command in StackLayout.on_free_ports(tmp_path).commands()}
    for name, variable in (("explainer", "EXPLAINER_STORE_ROOT"), ("trainer-api", "TRAINER_STORE_ROOT")):
        assert environments[name][variable] == "s3://bucket/prefix"
        assert environments[name]["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:1"
    assert "AWS_ENDPOINT_URL_S3" not in environments["lvlm"]

"""Which settings the processes of a local stack get."""

from __future__ import annotations

import contextlib
import socket
import sys
from pathlib import Path

import pytest

from plumbline.stack.layout import StackLayout
from plumbline.stack.processes import Command, start


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


def test_no_port_is_given_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Probe(socket.socket):
        """Of a kernel that gives the first port that is free."""

        def bind(self, address: tuple[str, int]) -> None:
            for port in range(61_000, 65_000):
                with contextlib.suppress(OSError):
                    return super().bind((address[0], port))

    monkeypatch.setattr("plumbline.stack.processes.socket.socket", Probe)
    layout = StackLayout.on_free_ports(tmp_path)
    addresses = {layout.redis, layout.triton, layout.explainer, layout.lvlm, layout.trainer}
    triton = next(command for command in layout.commands() if command.name == "triton")
    http = next(option.partition("=")[2] for option in triton.arguments if option.startswith("--http-port="))
    assert len({*addresses, f"127.0.0.1:{http}"}) == 6


def test_the_gpus_that_are_ours_are_told_to_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    program = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    child = start(Command("one", [sys.executable, "-c", program]), tmp_path)
    assert child.process.wait(30) == 0, (tmp_path / "one.log").read_text()
    assert (tmp_path / "one.log").read_text() == "3\n"

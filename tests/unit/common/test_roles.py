"""Every method has a least role, callers below it are refused and noted, and the file that gives roles may change at any time."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from plumbline.channels import open_channel
from plumbline.fresh_files import UnusableFile
from services.common.runtime.roles import LEAST_ROLES, Role, read_roles
from services.common.runtime.server import build_server
from tests.support.certificates import Authority
from tests.support.guarded_server import GuardedSettings, every_service, guarded_settings, serving

DEADLINE_S = 5.0
SECURITY = Path(__file__).resolve().parents[3] / "docs" / "security.md"
METHODS = {f"/{service.full_name}/{method.name}": method for service in every_service() for method in service.methods}
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PUBLISH = "/plumbline.explainer.v1.ExplainerService/PublishModel"
ROLES = "viewer: [view]\nsubmitter: [submit]\nreviewer: [review]\npublisher: [publish]\n"
NAMES = {"view": Role.VIEWER, "submit": Role.SUBMITTER, "review": Role.REVIEWER, "publish": Role.PUBLISHER}


@dataclass(frozen=True)
class Guarded:
    """A server that knows roles, and a channel to it for each name."""

    roles: Path
    channels: dict[str, grpc.Channel]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority, roles = Authority(), folder / "roles.yaml"
    roles.write_text(ROLES)
    with serving(guarded_settings(authority.write(folder / "server", "server"), roles)) as address:
        names = (*NAMES, "nobody")
        channels = {name: open_channel(address, authority.write(folder / name, name), ()) for name in names}
        yield Guarded(roles, channels)
        for channel in channels.values():
            channel.close()


@pytest.fixture
def guarded(running: Guarded) -> Iterator[Guarded]:
    """`running`, its roles as they were."""
    yield running
    running.roles.write_text(ROLES)


def call(channel: grpc.Channel, name: str, method: MethodDescriptor) -> grpc.StatusCode:
    """How a call with empty messages ends."""
    try:
        if method.client_streaming:
            list(channel.stream_stream(name)(iter([b""]), timeout=DEADLINE_S))
        elif method.server_streaming:
            list(channel.unary_stream(name)(b"", timeout=DEADLINE_S))
        else:
            channel.unary_unary(name)(b"", timeout=DEADLINE_S)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def publish(guarded: Guarded, name: str) -> grpc.StatusCode:
    return call(guarded.channels[name], PUBLISH, METHODS[PUBLISH])


def test_every_method_of_every_service_has_a_least_role_and_no_other_has():
    assert set(LEAST_ROLES) == {*METHODS, REFLECTION}


def test_what_changes_the_served_model_takes_a_publisher():
    changing = {"PublishModel", "ImportModel", "RollBackModel", "SetShadow"}
    assert {name.rpartition("/")[2] for name, role in LEAST_ROLES.items() if role is Role.PUBLISHER} == changing


def test_the_documentation_tells_every_methods_role():
    rows = [line.split("|") for line in SECURITY.read_text().splitlines() if line.startswith("|")]
    told = {method: row[1].strip() for row in rows for method in re.findall(r"`(\w+)`", row[2])}
    methods = {name.rpartition("/")[2]: role.name.lower() for name, role in LEAST_ROLES.items() if name != REFLECTION}
    assert told.items() >= methods.items()


@pytest.mark.parametrize("name", [*NAMES, "nobody"])
def test_a_role_opens_its_methods_and_those_of_smaller_ones_and_refuses_all_others(guarded, name):
    ended = {method: call(guarded.channels[name], method, METHODS[method]) for method in METHODS}
    role = NAMES.get(name, 0)
    opened = {method for method, code in ended.items() if code is grpc.StatusCode.OK}
    assert opened == {method for method in METHODS if LEAST_ROLES[method] <= role}
    assert {ended[method] for method in METHODS.keys() - opened} <= {grpc.StatusCode.PERMISSION_DENIED}


def test_a_refusal_names_the_method_and_the_role_and_is_noted_once(guarded, caplog):
    with pytest.raises(grpc.RpcError) as caught:
        guarded.channels["review"].unary_unary(PUBLISH)(b"", timeout=DEADLINE_S)
    assert caught.value.details() == f"{PUBLISH[1:]}: needs the role publisher or above; 'review' has reviewer"
    noted = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(each.method, each.caller, each.role, each.least_role) for each in noted] == [
        (PUBLISH, "review", "reviewer", "publisher")
    ]


def test_health_is_open_to_every_certificate(guarded):
    stub = health_pb2_grpc.HealthStub(guarded.channels["nobody"])
    assert (
        stub.Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S).status == health_pb2.HealthCheckResponse.SERVING
    )


def test_reflection_takes_a_viewer(guarded):
    def ask(name: str) -> int:
        stub = reflection_pb2_grpc.ServerReflectionStub(guarded.channels[name])
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        return len(list(stub.ServerReflectionInfo(iter([request]), timeout=DEADLINE_S)))

    assert ask("view") == 1
    with pytest.raises(grpc.RpcError) as caught:
        ask("nobody")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_a_role_that_is_taken_away_is_gone_with_the_next_call(guarded):
    assert publish(guarded, "publish") is grpc.StatusCode.OK
    guarded.roles.write_text("viewer: [publish]\npublisher: [nobody]\n")
    assert publish(guarded, "publish") is grpc.StatusCode.PERMISSION_DENIED
    assert publish(guarded, "nobody") is grpc.StatusCode.OK


def test_a_broken_file_leaves_the_roles_as_they_were_and_is_told_once(guarded, caplog):
    assert publish(guarded, "publish") is grpc.StatusCode.OK
    guarded.roles.write_text("publisher: nobody")
    assert [publish(guarded, name) for name in ("publish", "nobody", "publish")] == [
        grpc.StatusCode.OK,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.OK,
    ]
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "GUARDED_TLS_ROLES" in told[0].cause


def test_a_caller_can_not_give_itself_a_name(guarded):
    metadata = (("plumbline-caller-bin", b"publish"),)
    with pytest.raises(grpc.RpcError) as caught:
        guarded.channels["nobody"].unary_unary(PUBLISH)(b"", timeout=DEADLINE_S, metadata=metadata)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "expected lists of names under viewer, submitter, reviewer, publisher"),
        ("owner: [anna]", "expected lists of names under"),
        ("viewer: anna", "viewer: expected a list of names"),
        ("viewer: [no]", "viewer: expected a list of names, each a text"),
        ("viewer: ['']", "viewer: expected a list of names, each a text"),
        ("viewer: [anna]\nreviewer: [anna]", "reviewer: anna is named twice"),
        ("viewer: [", "can't be read as YAML"),
        (None, "can't be read"),
    ],
)
def test_a_file_that_is_no_list_of_names_by_role_stops_the_start(tmp_path, content, told):
    path = tmp_path / "roles.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UnusableFile, match=f"^GUARDED_TLS_ROLES: .*roles.yaml: .*{told}"):
        build_server(guarded_settings(Authority().write(tmp_path, "server"), path), [])


def test_a_name_of_a_role_may_have_spaces_and_any_letters(tmp_path):
    path = tmp_path / "roles.yaml"
    path.write_text("reviewer: [Jörg Müller, 'no']", encoding="utf-8")
    assert read_roles(path, "ROLES") == {"Jörg Müller": Role.REVIEWER, "no": Role.REVIEWER}


def test_without_tls_everybody_may_call_everything_and_the_log_says_so_once(caplog):
    caplog.set_level(logging.INFO, "services")
    with serving(GuardedSettings()) as address, grpc.insecure_channel(address) as channel:
        assert call(channel, PUBLISH, METHODS[PUBLISH]) is grpc.StatusCode.OK
    assert [record.message for record in caplog.records if "TLS" in record.message] == [
        "no TLS and no roles: whoever reaches the port may call everything"
    ]

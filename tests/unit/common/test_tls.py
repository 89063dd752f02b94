"""Who has no certificate of the authority gets no connection, and certificates change under load without a failed call."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from plumbline.certificates import CertificateFiles
from plumbline.channels import open_channel
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.fresh_files import UnusableFile
from plumbline.health import is_serving
from services.common.runtime.server import build_server
from services.common.runtime.tls import add_port
from tests.support.certificates import Authority
from tests.support.guarded_server import GuardedSettings, guarded_settings, serving

DEADLINE_S = 5.0
CHANGES = 4


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> CertificateFiles:
    """The server's files; "anna" is a viewer."""
    (tmp_path / "roles.yaml").write_text("viewer: [anna]")
    return authority.write(tmp_path / "server", "server")


@pytest.fixture
def address(tmp_path: Path, server: CertificateFiles) -> Iterator[str]:
    """Of a server whose connections live a fifth of a second, so that new ones are made all the time."""
    with serving(guarded_settings(server, tmp_path / "roles.yaml", max_connection_age_s=0.2)) as address:
        yield address


def renew(files: CertificateFiles, content: tuple[bytes, bytes]) -> None:
    """Overwrite certificate and key in place, with a moment when they don't belong together."""
    files.certificate.write_bytes(content[0])
    time.sleep(0.02)
    files.key.write_bytes(content[1])


def shown_by(address: str) -> bytes:
    """The certificate that a new connection gets."""
    host, _, port = address.partition(":")
    return ssl.get_server_certificate((host, int(port))).encode()


def check(channel: grpc.Channel) -> None:
    health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)


def test_a_certified_caller_is_served(tmp_path, authority, address):
    anna = authority.write(tmp_path / "anna", "anna")
    with Client(address, address, address, certificates=anna) as client:
        assert list(client.models()) == []


STRANGERS: dict[str, tuple[Callable[[Authority, str], grpc.Channel], str]] = {
    "plain": (lambda authority, address: grpc.insecure_channel(address), "WRONG_VERSION_NUMBER"),
    "without a certificate": (
        lambda authority, address: grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.pem)),
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
    ),
    "certified by another": (
        lambda authority, address: _secure(authority, address, Authority("another").certify("anna")),
        "unable to get local issuer certificate",
    ),
    "certified by another of the same name": (
        lambda authority, address: _secure(authority, address, Authority().certify("anna")),
        "BAD_SIGNATURE",
    ),
    "expired": (
        lambda authority, address: _secure(authority, address, authority.certify("anna", timedelta(seconds=-1))),
        "certificate has expired",
    ),
}


def _secure(authority: Authority, address: str, held: tuple[bytes, bytes]) -> grpc.Channel:
    certificate, key = held
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.pem, key, certificate))


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_gets_no_connection_and_grpc_writes_one_line_that_says_why(stranger, authority, address, capfd):
    open_stranger, reason = STRANGERS[stranger]
    with open_stranger(authority, address) as channel, pytest.raises(grpc.RpcError) as caught:
        check(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    lines = [line for line in capfd.readouterr().err.splitlines() if "Handshake failed" in line and reason in line]
    assert len(lines) == 1


def test_a_client_does_not_speak_to_a_server_of_another_authority(tmp_path, address):
    impostor = Authority().write(tmp_path / "impostor", "anna")
    with (
        Client(address, address, address, certificates=impostor) as client,
        pytest.raises(PlumblineError, match="the explainer and this client don't take each other's certificates"),
    ):
        client.models()


def test_a_client_without_a_certificate_is_told_so(address):
    with (
        Client(address, address, address) as client,
        pytest.raises(PlumblineError, match="don't take each other's certificates"),
    ):
        client.models()


def test_a_probe_with_the_services_own_certificate_is_answered(server, address):
    assert is_serving(address, server)
    assert not is_serving(address)


def test_certificates_and_authority_change_under_load_without_a_failed_call(tmp_path, authority, server, address):
    anna = authority.write(tmp_path / "anna", "anna")
    stop, calls, failures = threading.Event(), [], []

    def load(channel: grpc.Channel) -> None:
        while not stop.is_set():
            try:
                check(channel)
                calls.append(time.monotonic())
            except grpc.RpcError as error:
                failures.append(error)

    with open_channel(address, anna, ()) as channel:
        threads = [threading.Thread(target=load, args=(channel,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        shown = [shown_by(address)]
        for number in range(CHANGES):
            # First both sides trust both authorities, then each gets a certificate of the next.
            following = Authority(f"authority {number}")
            for files in (server, anna):
                files.authority.write_bytes(authority.pem + following.pem)
            time.sleep(0.3)
            renew(server, following.certify("server"))
            renew(anna, following.certify("anna"))
            authority = following
            time.sleep(0.2)
            shown.append(shown_by(address))
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(calls) > 100
    assert len(set(shown)) == len(shown)
    assert shown[-1].strip() == server.certificate.read_bytes().strip()


def test_a_half_written_pair_leaves_the_old_one_and_is_told_once(authority, server, address, caplog):
    old, (certificate, key) = server.certificate.read_bytes(), authority.certify("server")
    server.key.write_bytes(key)
    assert [shown_by(address).strip() for _ in range(3)] == [old.strip()] * 3
    server.certificate.write_bytes(certificate[: len(certificate) // 2])
    assert shown_by(address).strip() == old.strip()
    told = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert told[0].cause.startswith("GUARDED_TLS_CERTIFICATE, GUARDED_TLS_KEY: ")
    server.certificate.write_bytes(certificate)
    assert shown_by(address).strip() == certificate.strip()


def test_files_that_are_gone_leave_what_was_read(server, address):
    old = server.certificate.read_bytes()
    for path in server.paths:
        path.unlink()
    assert shown_by(address).strip() == old.strip()


def test_a_stream_goes_on_while_its_clients_certificate_changes(tmp_path, authority, address):
    anna = authority.write(tmp_path / "anna", "anna")
    with open_channel(address, anna, ()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="soon"), timeout=DEADLINE_S)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        renew(anna, authority.certify("anna"))
        check(channel)
        time.sleep(0.3)
        assert watch.is_active()
        watch.cancel()


@pytest.mark.parametrize("way", ["with_call", "future"])
def test_the_other_ways_to_call_a_method_are_open_too(way, tmp_path, authority, address):
    with open_channel(address, authority.write(tmp_path / "anna", "anna"), ()) as channel:
        method = health_pb2_grpc.HealthStub(channel).Check
        answer = getattr(method, way)(health_pb2.HealthCheckRequest(), timeout=DEADLINE_S)
        reply = answer.result() if way == "future" else answer[0]
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("given", range(1, 15))
def test_tls_that_is_set_in_part_is_refused_and_what_is_missing_named(given, tmp_path):
    names = ["tls_certificate", "tls_key", "tls_authority", "tls_roles"]
    values = {name: tmp_path for place, name in enumerate(names) if given >> place & 1}
    missing = "|".join(f"GUARDED_{name.upper()}" for name in names if name not in values)
    with pytest.raises(ValueError, match=f"({missing}): not set"):
        GuardedSettings(**values)


FAULTS: dict[str, tuple[Callable[[CertificateFiles, Authority], object], str]] = {
    "no key": (lambda files, _: files.key.unlink(), "GUARDED_TLS_KEY: .*tls.key: No such file"),
    "no certificate": (lambda files, _: files.certificate.unlink(), "GUARDED_TLS_CERTIFICATE: .*: No such file"),
    "no authority": (lambda files, _: files.authority.unlink(), "GUARDED_TLS_AUTHORITY: .*: No such file"),
    "another's key": (
        lambda files, authority: files.key.write_bytes(authority.certify("other")[1]),
        "GUARDED_TLS_CERTIFICATE, GUARDED_TLS_KEY: .*: not a certificate and its key",
    ),
    "key under a password": (
        lambda files, authority: [
            path.write_bytes(content)
            for path, content in zip(files.paths, authority.certify("server", password=b"secret"), strict=False)
        ],
        "without a password",
    ),
    "authority without a certificate": (
        lambda files, _: files.authority.write_text("nothing"),
        "GUARDED_TLS_AUTHORITY: .*: no certificate in PEM",
    ),
    "authority that is no text": (
        lambda files, _: files.authority.write_bytes(b"\xff\xfe"),
        "GUARDED_TLS_AUTHORITY: .*: no certificate in PEM",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_files_that_can_not_be_used_stop_the_start_and_the_setting_is_named(fault, tmp_path, authority, server):
    spoil, told = FAULTS[fault]
    spoil(server, authority)
    settings = guarded_settings(server, tmp_path / "roles.yaml")
    built, _ = build_server(settings, [])
    with pytest.raises(UnusableFile, match=told):
        add_port(built, settings)
    await built.stop(None)


@pytest.mark.parametrize(
    ("options", "status"),
    [(["--certificates", "TEST_"], 0), ([], 1), (["--certificates", "TEST_", "--service", "unknown"], 1)],
)
def test_the_probe_of_a_pod_finds_its_certificates_by_the_settings_prefix(options, status, server, address):
    names = ("TEST_CERTIFICATE", "TEST_KEY", "TEST_AUTHORITY")
    variables = {name: str(path) for name, path in zip(names, server.paths, strict=True)}
    command = [sys.executable, "-m", "plumbline.health", address, *options]
    assert subprocess.run(command, env=os.environ | variables, check=False).returncode == status

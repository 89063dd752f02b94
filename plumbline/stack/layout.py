"""Which processes make the local stack, with which settings, and where they write.

<state>/stack.json      addresses and pids of the stack, and whether it serves yet
<state>/log/            one log per process
<state>/store/          the artifact store, unless PLUMBLINE_STORE names another root: a folder or s3://bucket/prefix
<state>/models/         Triton's model repository
<state>/data/           the data root
<state>/redis/          Redis's append-only file
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from plumbline.stack.processes import Command, free_ports
from plumbline.stack.redis import redis_command
from plumbline.stack.triton import triton_command

STATUS_FILE = "stack.json"
SOURCE_ROOT = Path(__file__).resolve().parents[2]
_KEPT_BYTES = 8 * 2**20
"""What is larger glibc gives back when it is freed. By itself it raises the bound to 32 MiB with the first large picture, and every thread keeps
the largest it has seen. Above what a segmentation takes and frees thousands of times, 6 MiB: with a bound of 1 MiB a map took two and a half times as long."""
_KEPT_IN_TRAINING_BYTES = 32 * 2**20
"""The same where nets are trained: what a batch makes comes and goes with every step, which took up to twice as long with a bound of 1 MiB."""
_OUTWARD_VARIABLES = {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"}
"""How to reach a language model's server outside; only the LVLM service speaks to one."""


@dataclass(frozen=True)
class StackLayout:
    """A stack's folders, addresses (host:port, loopback) and the root of its artifact store."""

    state: Path
    redis: str
    triton: str
    explainer: str
    lvlm: str
    trainer: str
    store_root: str

    @classmethod
    def on_free_ports(cls, state: Path) -> StackLayout:
        """A layout below `state` with ports that are free now."""
        addresses = [f"127.0.0.1:{port}" for port in free_ports(5)]
        store_root = os.environ.get("PLUMBLINE_STORE") or str(state / "store")
        if "://" not in store_root:
            store_root = str(Path(store_root).resolve())
        return cls(state.resolve(), *addresses, store_root)

    @property
    def logs(self) -> Path:
        return self.state / "log"

    @property
    def store(self) -> Path:
        return self.state / "store"

    @property
    def models(self) -> Path:
        return self.state / "models"

    @property
    def data(self) -> Path:
        return self.state / "data"

    @property
    def broker_url(self) -> str:
        return f"redis://{self.redis}/0"

    @property
    def status_file(self) -> Path:
        """Where the supervisor tells how the stack stands."""
        return self.state / STATUS_FILE

    def read_pids(self) -> dict[str, int]:
        """Pids by name of the processes that the supervisor started last."""
        return json.loads(self.status_file.read_text())["pids"]

    def commands(self) -> list[Command]:
        """All processes, in the order in which they start."""
        for folder in (self.store, self.models, self.data, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        trainer = self._trainer_environment() | _keep_memory(_KEPT_IN_TRAINING_BYTES)
        taken = {_port(address) for address in (self.redis, self.triton, self.explainer, self.lvlm, self.trainer)}
        http_port = next(port for port in free_ports(len(taken) + 1) if port not in taken)
        return [
            redis_command(self.state, _port(self.redis)),
            triton_command(self.models, self.state, _port(self.triton), http_port),
            self._service("explainer", [], self._explainer_environment()),
            self._service("lvlm", [], self._lvlm_environment()),
            self._service("trainer", ["api"], trainer),
            self._service("trainer", ["worker"], trainer),
        ]

    def _explainer_environment(self) -> dict[str, str]:
        return _chosen("EXPLAINER_", "AWS_") | {
            "EXPLAINER_LISTEN": self.explainer,
            "EXPLAINER_TRITON_ADDRESS": self.triton,
            "EXPLAINER_MODEL_REPOSITORY": str(self.models),
            "EXPLAINER_STORE_ROOT": self.store_root,
        }

    def _lvlm_environment(self) -> dict[str, str]:
        outward = {name: value for name, value in os.environ.items() if name.upper() in _OUTWARD_VARIABLES}
        return outward | _chosen("LVLM_") | {"LVLM_LISTEN": self.lvlm, "LVLM_BROKER_URL": self.broker_url}

    def _trainer_environment(self) -> dict[str, str]:
        return _chosen("TRAINER_", "AWS_") | {
            "TRAINER_LISTEN": self.trainer,
            "TRAINER_BROKER_URL": self.broker_url,
            "TRAINER_STORE_ROOT": self.store_root,
            "TRAINER_DATA_ROOT": str(self.data),
            "TRAINER_EXPLAINER_ADDRESS": self.explainer,
            "TRAINER_LVLM_ADDRESS": self.lvlm,
        }

    def _service(self, name: str, arguments: list[str], environment: dict[str, str]) -> Command:
        defaults = {
            "PYTHONPATH": str(SOURCE_ROOT),
            "PYTHONUNBUFFERED": "1",
            # Two cores at home: more threads than that only wait for each other.
            "OMP_NUM_THREADS": "2",
        }
        environment = defaults | _keep_memory(_KEPT_BYTES) | environment
        return Command(
            "-".join([name, *arguments]), [sys.executable, "-P", "-m", f"services.{name}", *arguments], environment
        )


def _chosen(*prefixes: str) -> dict[str, str]:
    """Settings of a service that the engineer who runs `plumbline up` has set, an engine, a limit or the way to a bucket; the stack's own addresses
    and folders come over them."""
    return {name: value for name, value in os.environ.items() if name.startswith(prefixes)}


def _keep_memory(most_bytes: int) -> dict[str, str]:
    """glibc's bounds, the second of which it would leave at 128 KiB once the first is set, instead of twice the first; and few heaps,
    for each thread's own would keep that much.
    """
    bounds = {"MALLOC_MMAP_THRESHOLD_": most_bytes, "MALLOC_TRIM_THRESHOLD_": 2 * most_bytes, "MALLOC_ARENA_MAX": 2}
    return {name: str(bound) for name, bound in bounds.items()}


def _port(address: str) -> int:
    return int(address.rsplit(":", 1)[1])

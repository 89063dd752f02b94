"""A small disk in memory that can really be filled up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"
_APART = "PLUMBLINE_DISK_APART"
_CHUNKS_BYTES = (2**20, 2**12)


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """A disk of that size at the new `folder`, while the block lasts.

    Raises
    ------
    PermissionError
        When this process may not mount one.
    """
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "plumbline", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, timeout=10, check=False)
    if mounted.returncode:
        raise PermissionError(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], timeout=10, check=True)


def fill(disk: Path) -> None:
    """Take all the room that is left."""
    with (disk / FILLER).open("ab", buffering=0) as file:
        for chunk_bytes in _CHUNKS_BYTES:
            with contextlib.suppress(OSError):  # it is full
                while True:
                    file.write(bytes(chunk_bytes))


def free(disk: Path) -> None:
    """Give it back."""
    (disk / FILLER).unlink()


def run_apart(module: str, arguments: Sequence[str]) -> None:
    """Become `python -m module` in a mount namespace of its own, in which it may mount without being root and what it mounts goes with it. Returns there."""
    if os.environ.get(_APART):
        return
    apart = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    allowed = subprocess.run([*apart, "true"], capture_output=True, text=True, timeout=10, check=False)
    if allowed.returncode:
        raise SystemExit(f"a small disk needs root, or user namespaces for everybody: {allowed.stderr.strip()}")
    os.execvpe(apart[0], [*apart, sys.executable, "-m", module, *arguments], os.environ | {_APART: "1"})

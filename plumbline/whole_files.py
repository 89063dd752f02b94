"""Files that are there whole or as they were: a full disk or a stop in the middle costs what is new, not what was there."""

from __future__ import annotations

import shutil
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, its folder too if it is not there, or leave what is there as it is."""
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # a terminal or a pipe
        return
    path = path.resolve()  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        if path.exists():
            shutil.copymode(path, aside)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise

"""Result files, and what every one says of its making."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from plumbline.whole_files import write_whole

ROOT = Path(__file__).resolve().parents[1]


def where() -> dict[str, str | None]:
    """Commit (with "-dirty" when the tree differs from it), date, machine and torch."""
    return {
        "commit": _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
    }


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Write a result file, whole or not at all: some are written anew after each part, and go on from what they hold."""
    write_whole(path, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())


def _git(*arguments: str) -> str | None:
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or None

"""Where a number comes from: what every result file says of its making."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def where() -> dict[str, str | None]:
    """Commit (with "-dirty" when the tree differs from it), date, machine and torch."""
    return {
        "commit": _git("describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "torch": torch.__version__,
    }


def _git(*arguments: str) -> str | None:
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() or None

"""Which code runs, for the record."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_PACKAGE = "plumbline"
_GIT_TIMEOUT_S = 10


@lru_cache(maxsize=1)
def code_version() -> str:
    """The package's version and, where it is known, the commit: "0.1.0+<commit>", with ".dirty" after uncommitted changes."""
    try:
        package = distribution(_PACKAGE)
    except PackageNotFoundError:
        return "unknown"
    # Packages that were installed from a repository tell the commit themselves (PEP 610).
    origin = json.loads(package.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id") or describe_checkout(Path(__file__).parents[3])
    return f"{package.version}+{commit}" if commit else package.version


def describe_checkout(root: Path) -> str:
    """The commit that is checked out in `root`, ".dirty" after it when files differ; "" when that can't be told."""
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty=.dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_GIT_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()

"""The record names the code: the package's version and the commit, and whether that is all."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

from services.common.runtime.code_version import code_version, describe_checkout


def git(root: Path, *arguments: str) -> str:
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", "-C", str(root), *author, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_the_version_starts_with_the_packages_own():
    assert code_version().partition("+")[0] == version("plumbline")


def test_a_checkout_is_its_commit_and_is_dirty_after_a_change(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "tag", "-a", "v1", "-m", "a tag is no commit")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert describe_checkout(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert describe_checkout(tmp_path) == f"{commit}.dirty"


def test_what_is_no_checkout_has_no_commit(tmp_path):
    assert describe_checkout(tmp_path) == ""

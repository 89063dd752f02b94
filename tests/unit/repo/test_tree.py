"""What holds for every file of the repository."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "misc", "manager", "common_utils"}
MACHINE_PATH = re.compile(rb"/(?:root|home|work|Users)/[A-Za-z0-9._-]+/")


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in listed.splitlines() if (ROOT / line).is_file()]


def test_no_file_is_named_after_nothing():
    assert not [path for path in tracked_files() if path.stem in FORBIDDEN_NAMES]


def test_no_file_names_a_machine_path():
    text = [path for path in tracked_files() if path.suffix not in (".png", ".safetensors", ".npz")]
    found = [path.relative_to(ROOT).as_posix() for path in text if MACHINE_PATH.search(path.read_bytes())]
    assert found == []


def test_imports_keep_their_directions():
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


ELSEWHERE = {f"benchmarks.explainer.captum_{server}" for server in ("litserve", "mlserver")}
"""Servers to compare with, which run in environments of their own."""


def modules() -> list[str]:
    sources = [path for top in ("services", "plumbline", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    names = [path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for path in sources]
    # `python -m` entry points are read as modules as well: importing one must not start it.
    return sorted({name.removesuffix(".__init__") for name in names} - ELSEWHERE)


def test_importing_any_module_opens_no_socket_and_reads_no_setting():
    script = (
        "import importlib, socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.socket.bind = refuse\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, *modules()],
        cwd=ROOT,
        env={"PATH": "", "HOME": "/nonexistent", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(
    "target", ["demo", "test", "check", "protos", "nano", "k8s-render", "k8s-check", "images-check", "sbom", "audit"]
)
def test_make_target_is_listed_in_help(target):
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(rf"^\s+{target}\s", shown, re.MULTILINE)


def test_ci_runs_the_test_command_of_the_readme():
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()

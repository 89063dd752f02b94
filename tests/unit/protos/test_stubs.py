"""The stubs are what the protos say, and the protos keep buf's rules."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PROTOS = sorted(path.relative_to(ROOT / "protos") for path in (ROOT / "protos").rglob("*.proto"))


def test_stubs_are_current(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iprotos"]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, *map(str, PROTOS)], cwd=ROOT, check=True)
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.py*"))
    stale = [str(path) for path in made if (ROOT / path).read_bytes() != (tmp_path / path).read_bytes()]
    assert not stale, f"stale stubs {stale}: run `make protos`"


def test_there_are_no_stubs_without_a_proto():
    stubs = {path.relative_to(ROOT).as_posix() for path in (ROOT / "plumbline").rglob("*_pb2.py")}
    assert stubs == {path.as_posix().replace(".proto", "_pb2.py") for path in PROTOS}


def test_protos_keep_bufs_rules():
    buf = Path(sys.executable).parent / "buf"
    result = subprocess.run([buf, "lint"], cwd=ROOT / "protos", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr

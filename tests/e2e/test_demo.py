"""The main job as a person runs it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from plumbline.stack.control import find_stack

ROOT = Path(__file__).resolve().parents[2]


def start_demo(state: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "benchmarks.decoy.demo", "--quick", "--state", str(state)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def processes_of(state: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        told = " ".join([*(process.info["cmdline"] or []), *(process.info["environ"] or {}).values()])
        if str(state) in told:
            found.append(process)
    return found


@pytest.mark.timeout(600)
def test_killed_demo_leaves_no_process_and_runs_again(tmp_path):
    state = tmp_path / "demo"
    killed = start_demo(state)
    end = time.monotonic() + 120
    while find_stack(state) is None:
        assert killed.poll() is None, killed.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(processes_of(state)) >= 6
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    while processes_of(state):
        assert time.monotonic() < end + 60, [process.cmdline() for process in processes_of(state)]
        time.sleep(0.2)

    again = start_demo(state)
    output, _ = again.communicate(timeout=400)
    assert again.returncode == 0, output
    numbers = json.loads((state / "result.json").read_text())
    assert numbers["state"] in ("PUBLISHED", "REJECTED"), output
    assert set(numbers["groups"]) >= {"plain", "ground-truth masks"}
    page = (state / "report.html").read_text()
    assert not re.search(r"(?:src|href)=\"(?!data:)", page), "the report needs something beside itself"
    assert processes_of(state) == []

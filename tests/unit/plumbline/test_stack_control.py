"""A state folder tells the truth about its stack, whatever a lost supervisor left in it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import filelock
import psutil
import pytest
from psutil import _pslinux

from plumbline.stack.control import find_stack, find_supervisor, start_stack, stop_stack, tied_stack
from plumbline.stack.layout import StackLayout
from tests.support.waiting import wait_for


def write(state: Path, **changes: object) -> None:
    layout = StackLayout.on_free_ports(state)
    me = psutil.Process()
    content = {name: str(value) for name, value in vars(layout).items()}
    content |= {"supervisor": me.pid, "supervisor_started_at": me.create_time(), "is_serving": True}
    (state / "stack.json").write_text(json.dumps(content | changes))


def test_a_serving_stack_is_found_with_its_addresses(tmp_path):
    write(tmp_path)
    found = find_stack(tmp_path)
    assert found.state == tmp_path.resolve()
    assert found.explainer.startswith("127.0.0.1:")


def test_a_stack_that_is_starting_serves_nobody_but_has_an_owner(tmp_path):
    write(tmp_path, is_serving=False)
    assert find_stack(tmp_path) is None
    assert find_supervisor(tmp_path).pid == psutil.Process().pid


def test_a_stranger_with_a_lost_supervisors_pid_is_neither_found_nor_ended(tmp_path):
    write(tmp_path, supervisor_started_at=1.0)
    assert find_stack(tmp_path) is None
    assert stop_stack(tmp_path) is False


@pytest.mark.parametrize("left", ["", "{", "{}", "[]", '{"supervisor": 1}'])
def test_a_file_that_can_not_be_read_is_no_stack(tmp_path, left):
    (tmp_path / "stack.json").write_text(left)
    assert find_stack(tmp_path) is None
    assert stop_stack(tmp_path) is False


def test_a_folder_without_a_file_is_no_stack(tmp_path):
    assert find_stack(tmp_path) is None
    assert stop_stack(tmp_path) is False


def test_a_stack_is_found_and_ended_after_the_machines_clock_was_set(tmp_path, monkeypatch):
    program = f"""
import json, os, time
from pathlib import Path
from plumbline.stack.layout import StackLayout
from plumbline.stack.supervisor import Supervisor
supervisor = Supervisor(StackLayout.on_free_ports(Path({str(tmp_path)!r})))
supervisor._is_serving = True
supervisor._publish()
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program]) as owner:
        wait_for(lambda: (tmp_path / "stack.json").exists(), 30)
        boot_time = _pslinux.boot_time
        monkeypatch.setattr(_pslinux, "boot_time", lambda: boot_time() + 7)
        assert find_stack(tmp_path) is not None
        assert (stop_stack(tmp_path), psutil.pid_exists(owner.pid)) == (True, False)


def test_the_stack_of_an_earlier_version_is_found_as_that(tmp_path):
    write(tmp_path)
    content = json.loads((tmp_path / "stack.json").read_text())
    del content["store_root"]
    (tmp_path / "stack.json").write_text(json.dumps(content))
    with pytest.raises(RuntimeError, match="another version's; end it with `plumbline down`"):
        find_stack(tmp_path)
    assert find_supervisor(tmp_path).pid == psutil.Process().pid


def test_a_stack_that_is_just_starting_is_waited_for_and_its_log_is_left_alone(tmp_path):
    write(tmp_path, is_serving=False)
    (tmp_path / "supervisor.log").write_text("starting\n")
    waited = []

    def serve_at_the_third() -> None:
        waited.append(1)
        if len(waited) == 3:
            write(tmp_path)

    assert start_stack(tmp_path, serve_at_the_third).state == tmp_path.resolve()
    assert (tmp_path / "supervisor.log").read_text() == "starting\n"


def test_a_stack_that_ends_while_it_is_waited_for_is_told_with_its_reason(tmp_path):
    write(tmp_path, is_serving=False)
    (tmp_path / "supervisor.log").write_text("redis ended at start\n")
    with pytest.raises(RuntimeError, match="redis ended at start"):
        start_stack(tmp_path, (tmp_path / "stack.json").unlink)


def test_a_second_stack_in_a_folder_is_refused_and_leaves_the_log_of_the_first(tmp_path):
    with filelock.FileLock(tmp_path / "supervisor.lock"):
        write(tmp_path)
        (tmp_path / "supervisor.log").write_text("serving\n")
        with pytest.raises(RuntimeError, match="another stack holds"), tied_stack(tmp_path):
            pass
    assert (tmp_path / "supervisor.log").read_text().startswith("serving\n")

"""A state folder tells the truth about its stack, whatever a lost supervisor left in it."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from plumbline.stack.control import find_stack, find_supervisor, stop_stack
from plumbline.stack.layout import StackLayout


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

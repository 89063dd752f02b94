"""How a batch is divided among the processes of a team. What they say to each other is tried with real ones, in tests/integration."""

from __future__ import annotations

import pytest

from services.trainer.adapters.process_group import ProcessGroup


@pytest.mark.parametrize(("count", "size"), [(224, 2), (32, 3), (7, 4), (5, 5)])
def test_the_parts_of_a_team_are_the_batch_in_order_and_alike_in_size(count: int, size: int):
    parts = [list(range(count)[ProcessGroup(rank, size).part(count)]) for rank in range(size)]
    assert [row for part in parts for row in part] == list(range(count))
    assert {len(part) for part in parts} <= {count // size, -(-count // size)}


def test_one_process_of_a_team_leads():
    assert [ProcessGroup(rank, 3).leads for rank in range(3)] == [True, False, False]

"""What is timed of a step, and what the figures say was changed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from benchmarks.alignment.cost import time_step
from benchmarks.alignment.pictures import find_changed
from services.trainer.domain.pictures import Pictures, move_regions


def _work(seconds: float) -> None:
    ends = time.process_time() + seconds
    while time.process_time() < ends:
        pass


def test_a_step_is_timed_without_what_comes_before_the_first_is_done():
    def steps() -> Iterator[int]:
        _work(0.2)
        for step in (2, 4, 6):
            yield step
            _work(0.04)

    assert time_step(steps()) == pytest.approx(0.02, rel=0.2)


def test_what_a_moved_region_changed_is_found_from_the_pictures_alone():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    receivers = Pictures(torch.rand((12, 1, 8, 8), generator=generator), labels)
    masks = torch.rand((12, 8, 8), generator=generator) < 0.2
    donors = Pictures(torch.rand((12, 1, 8, 8), generator=generator) + 1, labels.roll(1), masks)
    moved = move_regions(donors, receivers)
    order = torch.randperm(12, generator=generator)
    assert all(torch.equal(find_changed(moved, row, receivers.take(order)), masks[row]) for row in range(12))

"""Moving regions: what comes, what goes, what stays."""

from __future__ import annotations

import torch

from services.trainer.domain.pictures import Pictures, move_regions

PIXELS = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 4) + 1  # every pixel of a picture holds its number
MASKS = torch.zeros((3, 4, 4), dtype=torch.bool)
MASKS[0, 0, 0] = MASKS[1, 3, 3] = True  # the third has no region
PICTURES = Pictures(PIXELS, torch.tensor([5, 6, 7]), MASKS)


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def test_the_donors_region_comes_and_the_receivers_own_goes():
    moved = move_regions(PICTURES, rows(0), rows(1))
    assert moved.labels.tolist() == [6]
    assert torch.equal(moved.masks[0], MASKS[0] | MASKS[1])
    assert moved.pixels[0, :, 0, 0].tolist() == moved.pixels[0, :, 3, 3].tolist() == [1.0, 1.0]
    assert (moved.pixels[0][:, ~moved.masks[0]] == 2.0).all()


def test_a_picture_without_a_region_receives_one():
    moved = move_regions(PICTURES, rows(1), rows(2))
    assert torch.equal(moved.masks[0], MASKS[1])
    assert (moved.pixels[0] == 2.0).sum() == 2  # one pixel in two channels


def test_a_picture_that_is_its_own_donor_stays_as_it_is():
    moved = move_regions(PICTURES, rows(0, 1), rows(0, 1))
    assert torch.equal(moved.pixels, PIXELS[:2])
    assert torch.equal(moved.masks, MASKS[:2])


def test_rows_with_a_region_are_found():
    assert PICTURES.rows_with_region().tolist() == [0, 1]
    assert Pictures(PIXELS, PICTURES.labels).rows_with_region().tolist() == []
    assert Pictures(PIXELS[:0], PICTURES.labels[:0], MASKS[:0]).rows_with_region().tolist() == []

"""Moving regions: what comes, what goes, what stays."""

from __future__ import annotations

import pytest
import torch

from services.trainer.domain.pictures import EveryClass, OtherClass, Pictures, move_regions

PIXELS = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 4) + 1  # every pixel of a picture holds its number
MASKS = torch.zeros((3, 4, 4), dtype=torch.bool)
MASKS[0, 0, 0] = MASKS[1, 3, 3] = True  # the third has no region
PICTURES = Pictures(PIXELS, torch.tensor([5, 6, 7]), MASKS)


def rows(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers)


def test_the_donors_region_comes_and_the_receivers_own_goes():
    moved = move_regions(PICTURES.take(rows(0)), PICTURES.take(rows(1)))
    assert moved.labels.tolist() == [6]
    assert torch.equal(moved.masks[0], MASKS[0] | MASKS[1])
    assert moved.pixels[0, :, 0, 0].tolist() == moved.pixels[0, :, 3, 3].tolist() == [1.0, 1.0]
    assert (moved.pixels[0][:, ~moved.masks[0]] == 2.0).all()


@pytest.mark.parametrize("receiver", [PICTURES, Pictures(PIXELS, PICTURES.labels)], ids=["empty mask", "not critiqued"])
def test_a_picture_without_a_region_receives_one(receiver: Pictures):
    moved = move_regions(PICTURES.take(rows(1)), receiver.take(rows(2)))
    assert torch.equal(moved.masks[0], MASKS[1])
    assert (moved.pixels[0] == 2.0).sum() == 2  # one pixel in two channels


def test_a_region_goes_where_the_donor_has_none():
    moved = move_regions(PICTURES.take(rows(2)), PICTURES.take(rows(0)))
    assert torch.equal(moved.masks[0], MASKS[0])
    assert moved.pixels[0, :, 0, 0].tolist() == [3.0, 3.0]
    assert moved.labels.tolist() == [5]


def test_rows_with_a_region_are_found():
    assert PICTURES.rows_with_region().tolist() == [0, 1]
    assert Pictures(PIXELS, PICTURES.labels).rows_with_region().tolist() == []
    assert Pictures(PIXELS[:0], PICTURES.labels[:0], MASKS[:0]).rows_with_region().tolist() == []


def test_pictures_of_another_class_are_drawn_all_alike():
    labels = torch.tensor([2, 0, 1, 0, 2, 2])
    asked = torch.tensor([0, 1, 2]).repeat(2000)
    drawn, is_there = OtherClass(labels).draw(asked, torch.Generator().manual_seed(0))
    assert is_there.all()
    assert (labels[drawn] != asked).all()
    for label in range(3):
        counts = drawn[asked == label].bincount(minlength=len(labels))
        others = counts[labels != label].double() / 2000
        assert torch.allclose(others, torch.full_like(others, 1 / len(others)), atol=0.05)


def test_every_class_is_drawn_as_often_as_another():
    labels = torch.tensor([0] * 90 + [3] * 10)
    drawn = EveryClass(labels).draw(4000, torch.Generator().manual_seed(0))
    assert labels[drawn].bincount(minlength=4).tolist() == pytest.approx([2000, 0, 0, 2000], abs=150)
    assert drawn.bincount().gt(0).all()


def test_where_there_is_no_other_class_it_is_said():
    _, is_there = OtherClass(torch.tensor([4, 4])).draw(torch.tensor([4, 1]), torch.Generator().manual_seed(0))
    assert is_there.tolist() == [False, True]

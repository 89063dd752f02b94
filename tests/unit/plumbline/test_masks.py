"""Our run lengths are COCO's, and a polygon holds the pixels whose centre lies in it."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco

from plumbline.masks import decode_rle, encode_rle, fill_polygon, fill_runs, list_runs
from services.common.vision.masks import encode_mask


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 211)])
def test_run_lengths_are_cocos_and_come_back(share: float, size: tuple[int, int]):
    mask = np.random.default_rng(0).random(size) < share
    assert encode_rle(mask) == encode_mask(mask)
    assert np.array_equal(decode_rle(encode_rle(mask), *size), mask)
    assert np.array_equal(fill_runs(list_runs(mask), *size), mask)


@pytest.mark.parametrize("runs", [[0, 3], [0, 5], [], [5, -1], [2**40]])
def test_run_lengths_of_another_size_are_refused_before_anything_is_filled(runs: list[int]):
    with pytest.raises(ValueError, match="2×2 pixels"):
        fill_runs(runs, 2, 2)


def test_a_polygon_holds_the_pixels_whose_centre_lies_in_it_and_not_those_of_its_outline():
    square = np.array([[2, 2], [5, 2], [5, 5], [2, 5]])
    mask = fill_polygon(square, 8, 8)
    assert mask.sum() == 9
    assert mask[2:5, 2:5].all()


def test_a_polygon_beyond_the_picture_is_cut():
    assert fill_polygon(np.array([[-9, -9], [99, -9], [99, 99], [-9, 99]]), 3, 4).all()


def test_polygons_are_as_large_as_cocos_to_the_outline():
    generator = np.random.default_rng(0)
    differences, areas = [], []
    for _ in range(100):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 8))
        corners = 32 + generator.uniform(5, 28, (8, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        theirs = coco.decode(coco.merge(coco.frPyObjects([corners.ravel().tolist()], 64, 64))).astype(bool)
        differences.append(int(fill_polygon(corners, 64, 64).sum()) - int(theirs.sum()))
        areas.append(theirs.sum())
    assert abs(np.sum(differences)) < 0.001 * np.sum(areas)

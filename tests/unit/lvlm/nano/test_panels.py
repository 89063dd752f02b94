"""Panels drawn for a language model."""

import numpy as np
import pytest

from services.lvlm.domain.panels import SEGMENT_COLOURS, render_panels

BLACK = (0, 0, 0)


def _grey(value: int, shape: tuple[int, int] = (4, 4)) -> np.ndarray:
    return np.full(shape, value, dtype=np.uint8)


def _mask(*pixels: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((4, 4), dtype=bool)
    for row, column in pixels:
        mask[row, column] = True
    return mask


def test_golden_panels_of_a_small_picture() -> None:
    picture, overlay, segment_map = render_panels(
        _grey(255), [_mask((0, 0)), _mask((3, 3))], ["picture", "overlay", "segment_map"], 8
    )
    assert {picture.getpixel((x, y)) for x in range(8) for y in range(8)} == {(255, 255, 255)}
    assert overlay.getpixel((0, 0)) == segment_map.getpixel((0, 0)) == (255, 0, 0)
    assert overlay.getpixel((7, 7)) == segment_map.getpixel((7, 7)) == (0, 255, 0)
    assert overlay.getpixel((4, 4)) == (255, 255, 255)
    assert segment_map.getpixel((4, 4)) == BLACK


def test_tint_is_visible_on_black_and_dark_marks_are_visible_under_it() -> None:
    levels = [
        render_panels(_grey(value), [_mask((0, 0))], ["overlay"], 4)[0].getpixel((0, 0))[0] for value in (0, 30, 255)
    ]
    assert levels == [76, 137, 255]


def test_six_segments_have_six_colours() -> None:
    masks = [_mask((index // 4, index % 4)) for index in range(6)]
    (panel,) = render_panels(_grey(0), masks, ["segment_map"], 4)
    drawn = [panel.getpixel((index % 4, index // 4)) for index in range(6)]
    assert drawn == list(SEGMENT_COLOURS.values())


@pytest.mark.parametrize(("shape", "padding"), [((2, 4), (0, 0)), ((4, 2), (0, 0))])
def test_aspect_is_kept_and_the_rest_is_black(shape: tuple[int, int], padding: tuple[int, int]) -> None:
    (panel,) = render_panels(_grey(200, shape), [], ["picture"], 16)
    assert panel.size == (16, 16)
    assert panel.getpixel(padding) == BLACK
    assert panel.getpixel((8, 8)) == (200, 200, 200)
    lit = np.asarray(panel)[:, :, 0] > 0
    assert lit.sum() == 16 * 8


def test_colour_pictures_stay_coloured() -> None:
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:, :, 2] = 90
    assert render_panels(picture, [], ["picture"], 4)[0].getpixel((1, 1)) == (0, 0, 90)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown panels"):
        render_panels(_grey(0), [], ["sketch"], 8)
    with pytest.raises(ValueError, match="at most 6"):
        render_panels(_grey(0), [_mask((0, 0))] * 7, ["picture"], 8)
    with pytest.raises(ValueError, match="segment"):
        render_panels(_grey(0), [np.zeros((2, 2), dtype=bool)], ["picture"], 8)
    with pytest.raises(ValueError, match="picture"):
        render_panels(_grey(0).astype(float), [], ["picture"], 8)
    with pytest.raises(ValueError, match="size_px"):
        render_panels(_grey(0), [], ["picture"], 0)

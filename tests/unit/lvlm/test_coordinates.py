"""Box conventions: the same square in every family's words, and nothing taken that is not in a family's form."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.runtime.errors import BadModelOutput
from services.lvlm.domain.boxes import PixelBox, Placement, ShownBox
from services.lvlm.domain.coordinates.family import MAX_BOXES, UnknownPhrase
from services.lvlm.domain.coordinates.qwen2_5_vl import MAX_PIXELS, MIN_PIXELS, resized_size
from services.lvlm.domain.coordinates.registry import DEFAULT_FAMILY, FAMILIES, find_family

SIZE_PX = (512, 512)
SQUARE = ShownBox(64, 128, 192, 320)
"""The golden square: columns 64 to 192 and rows 128 to 320 of 512 × 512."""

GOLDEN = {
    "qwen2_5_vl": '[{"bbox_2d": [63, 126, 189, 315], "label": "square"}]',  # of 504 × 504
    "qwen3_vl": '[{"bbox_2d": [125, 250, 375, 625], "label": "square"}]',
    "nano": '[{"bbox_2d":[125,250,375,625]}]',
    "internvl": "<ref>the square</ref><box>[[125, 250, 375, 625]]</box>",
    "gemini": '[{"box_2d": [250, 125, 625, 375], "label": "square"}]',
    "paligemma": "<loc0256><loc0128><loc0640><loc0384> square",
    "florence2": "square<loc_125><loc_250><loc_375><loc_625>",
}
"""The golden square as a model of the family writes it."""


def steps(values: list[float], per_side: int, last: int) -> list[int]:
    return [min(last, round(value / SIZE_PX[0] * per_side)) for value in values]


def x_first(box: ShownBox) -> list[float]:
    return [box.left, box.top, box.right, box.bottom]


def y_first(box: ShownBox) -> list[float]:
    return [box.top, box.left, box.bottom, box.right]


WRITERS: dict[str, tuple[Callable[[ShownBox], str], float]] = {
    "qwen2_5_vl": (lambda box: f'[{{"bbox_2d": {steps(x_first(box), 504, 504)}}}]', 512 / 504),
    "qwen3_vl": (lambda box: f'[{{"bbox_2d": {steps(x_first(box), 1000, 1000)}}}]', 0.512),
    "nano": (lambda box: f'[{{"bbox_2d": {steps(x_first(box), 1000, 1000)}}}]', 0.512),
    "internvl": (lambda box: f"<box>[{steps(x_first(box), 1000, 1000)}]</box>", 0.512),
    "gemini": (lambda box: f'[{{"box_2d": {steps(y_first(box), 1000, 1000)}}}]', 0.512),
    "paligemma": (
        lambda box: "".join(f"<loc{value:04d}>" for value in steps(y_first(box), 1024, 1023)) + " thing",
        0.5,
    ),
    "florence2": (lambda box: "thing" + "".join(f"<loc_{value}>" for value in steps(x_first(box), 1000, 999)), 1.024),
}
"""Per family how a box is written, and its quantisation in pixels of the panel."""


@pytest.mark.parametrize("name", FAMILIES)
def test_golden_square_is_read_where_it_is(name):
    (box,) = find_family(name).read(GOLDEN[name], SIZE_PX)
    # Florence-2 names the middle of a bin of half a pixel.
    assert x_first(box) == pytest.approx(x_first(SQUARE), abs=0.3 if name == "florence2" else 1e-9)


coordinate = st.floats(0, 512, allow_nan=False)


@pytest.mark.parametrize("name", FAMILIES)
@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate))
def test_box_comes_back_within_its_familys_quantisation(name, columns, rows):
    box = ShownBox(min(columns), min(rows), max(columns), max(rows))
    write, quantum = WRITERS[name]
    (read,) = find_family(name).read(write(box), SIZE_PX)
    assert x_first(read) == pytest.approx(x_first(box), abs=quantum)


def boxes(values: str, key: str = "bbox_2d") -> str:
    return f'[{{"{key}": {values}}}]'


MALFORMED_JSON = {
    "nothing": "",
    "not a number": boxes("[NaN, 0, 10, 10]"),
    "infinite": boxes("[0, 0, Infinity, 10]"),
    "number beyond floats": boxes("[0, 0, 1e999, 10]"),
    "integer beyond floats": boxes(f"[0, 0, {'9' * 400}, 10]"),
    "far outside": boxes("[0, 0, 1500, 10]"),
    "negative": boxes("[-50, 0, 10, 10]"),
    "three numbers": boxes("[0, 0, 10]"),
    "five numbers": boxes("[0, 0, 10, 10, 10]"),
    "words for numbers": boxes('["0", "0", "10", "10"]'),
    "truth for a number": boxes("[true, 0, 10, 10]"),
    "null": boxes("null"),
    "inverted": boxes("[90, 0, 10, 10]"),
    "upside down": boxes("[0, 90, 10, 10]"),
    "too many": "[" + ", ".join(['{"bbox_2d": [0, 0, 10, 10]}'] * (MAX_BOXES + 1)) + "]",
    "endless": "[" * 100_000,
    "nested beyond the stack": "[" * 10_000 + "]" * 10_000,
    "fence left open": f"```json\n{boxes('[0, 0, 10, 10]')}",
    "two fences": f"```json\n{boxes('[0, 0, 10, 10]')}\n```\n```json\n[]\n```",
    "prose around a fence": f"Here:\n```json\n{boxes('[0, 0, 10, 10]')}\n```",
    "empty fence": "```json\n```",
    "prose around": f"Here it is: {boxes('[0, 0, 10, 10]')}",
    "prose alone": "The square is in the corner.",
    "cut off": '[{"bbox_2d": [0, 0, 10,',
    "cut off after a box": '[{"bbox_2d": [0, 0, 10, 10]}, {"bbox',
    "object instead of a list": '{"bbox_2d": [0, 0, 10, 10]}',
    "no key": "[[0, 0, 10, 10]]",
    "another family's key": boxes("[0, 0, 10, 10]", key="box_2d"),
    "key twice": '[{"bbox_2d": [0, 0, 10, 10], "bbox_2d": [20, 20, 30, 30]}]',
    "empty object": "[{}]",
    "null alone": "null",
}


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "nano"])
@pytest.mark.parametrize("fault", MALFORMED_JSON)
def test_malformed_json_is_refused_and_never_absent(name, fault):
    with pytest.raises(BadModelOutput) as caught:
        find_family(name).read(MALFORMED_JSON[fault], SIZE_PX)
    assert not isinstance(caught.value, UnknownPhrase)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl", "nano"])
@pytest.mark.parametrize("fence", ["```json\n{}\n```", "```\n{}```"])
def test_one_code_fence_is_let_be(name, fence):
    family, bare = find_family(name), boxes("[0, 0, 10, 10]")
    assert family.read(fence.replace("{}", bare), SIZE_PX) == family.read(bare, SIZE_PX)


MALFORMED = {
    "gemini": ['[{"bbox_2d": [0, 0, 10, 10]}]', '[{"box_2d": [0, 0, 10]}]', '[{"box_2d": [90, 0, 10, 10]}]'],
    "internvl": [
        "",
        "[[1, 2, 3, 4]]",
        "<box>[[1, 2, 3]]</box>",
        "<box>[1, 2, 3, 4]</box>",
        "<box>[[90, 2, 3, 4]]</box>",
        "<box>[[1, 2, 3, 4000]]</box>",
        "<box>[[1, 2, 3, 4]]",
        "<box>[[[[1, 2, 3, 4]]</box>",
        "Look: <box>[[1, 2, 3, 4]]</box>",
        "<box>[[NaN, 2, 3, 4]]</box>",
    ],
    "paligemma": [
        "",
        "square",
        "<loc0001><loc0002><loc0003> square",
        "<loc0001><loc0002><loc0003><loc0004><loc0005> square",
        "<loc0001><loc0002><loc0003><loc1024> square",
        "<loc0900><loc0002><loc0003><loc0004> square",
        "<loc0001><loc0002><loc0003><loc0004><seg001> square",
        "<loc_1><loc_2><loc_3><loc_4> square",
    ],
    "florence2": [
        "",
        "square",
        "square<loc_1><loc_2><loc_3>",
        "square<loc_1><loc_2><loc_3><loc_1000>",
        "square<loc_9><loc_2><loc_3><loc_4>",
        "square<loc_1><loc_2><loc_3><loc_4><poly>",
        "<loc0001><loc0002><loc0003><loc0004> square",
    ],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in MALFORMED for answer in MALFORMED[name]])
def test_malformed_answer_is_refused_and_never_absent(name, answer):
    with pytest.raises(BadModelOutput):
        find_family(name).read(answer, SIZE_PX)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("qwen2_5_vl", "[]"),
        ("qwen3_vl", " []\n"),
        ("nano", "[]"),
        ("gemini", "[ ]"),
        ("internvl", "<ref>the square</ref><box>[]</box>"),
    ],
)
def test_only_an_explicit_empty_answer_is_absent(name, answer):
    assert find_family(name).read(answer, SIZE_PX) == []


@pytest.mark.parametrize("answer", ["unclear", '"unclear"', "Unclear\n"])
def test_unknown_phrase_is_told_apart_from_absent_and_from_malformed(answer):
    with pytest.raises(UnknownPhrase):
        find_family("nano").read(answer, SIZE_PX)


def test_border_a_little_outside_is_cut():
    (box,) = find_family("qwen3_vl").read('[{"bbox_2d": [-4, 0, 1008, 1000]}]', SIZE_PX)
    assert x_first(box) == [0, 0, 512, 512]


@pytest.mark.parametrize(
    ("size", "resized"),
    [((512, 512), (504, 504)), ((100, 30), (112, 28)), ((8, 8), (56, 56)), ((4000, 4000), (3584, 3584))],
)
def test_resized_size_is_that_of_transformers(size, resized):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    assert resized_size(*size) == smart_resize(*size, 28, MIN_PIXELS, MAX_PIXELS) == resized


def test_florence_boxes_are_those_of_transformers():
    import torch
    from transformers.models.florence2.processing_florence2 import Florence2PostProcessor

    bins = [12, 345, 678, 999]
    side_px = 2000  # of whole pixels, to which theirs are cut
    theirs = Florence2PostProcessor.dequantize(
        type("Bins", (), {"quantize_bins": (1000, 1000)}), torch.tensor([bins]), size=(side_px, side_px)
    )[0].tolist()
    answer = "thing" + "".join(f"<loc_{value}>" for value in bins)
    (ours,) = find_family("florence2").read(answer, (side_px, side_px))
    assert x_first(ours) == pytest.approx(theirs)


def test_unknown_family_is_told_with_those_there_are():
    with pytest.raises(ValueError, match="internvl"):
        find_family("nova")
    assert DEFAULT_FAMILY in FAMILIES


@pytest.mark.parametrize(
    ("picture_size", "shown", "expected"),
    [
        ((28, 28), ShownBox(16, 32, 32, 48), PixelBox(8, 4, 12, 8)),
        ((28, 28), ShownBox(16.2, 31.9, 32.3, 48.1), PixelBox(8, 4, 12, 8)),
        ((14, 28), ShownBox(0, 28, 112, 84), PixelBox(0, 0, 14, 28)),
        ((14, 28), ShownBox(0, 0, 56, 56), PixelBox(0, 0, 7, 14)),
        ((28, 14), ShownBox(28, 0, 84, 112), PixelBox(0, 0, 28, 14)),
        ((28, 28), ShownBox(0, 0, 0.5, 0.5), PixelBox(0, 0, 1, 1)),
        ((14, 28), ShownBox(0, 0, 112, 20), None),
        ((28, 28), ShownBox(10, 10, 10, 40), None),
    ],
    ids=["exact", "rounded", "wide", "wide, cut", "tall", "less than a pixel", "in the padding", "no area"],
)
def test_box_on_a_panel_is_found_in_the_picture(picture_size, shown, expected):
    assert Placement(*picture_size, 112).to_picture(shown) == expected


side = st.integers(1, 60)


@given(side, side, st.data())
def test_box_of_a_picture_survives_the_panel(height, width, data):
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = PixelBox(top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width)))
    placement = Placement(height, width, 240)
    (fitted_height, fitted_width), (first_row, first_column) = placement.fitted_size_px, placement.offset_px
    shown = ShownBox(
        first_column + box.left_px * fitted_width / width,
        first_row + box.top_px * fitted_height / height,
        first_column + box.right_px * fitted_width / width,
        first_row + box.bottom_px * fitted_height / height,
    )
    assert placement.to_picture(shown) == box

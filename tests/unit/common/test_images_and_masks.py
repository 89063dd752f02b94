"""Pictures and masks from outside: taken when sound, refused with the field when not."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from services.common.runtime.errors import InvalidInput, Unsupported
from services.common.vision.masks import _pixel_count, decode_mask, encode_mask
from services.common.vision.preprocessing import ImageLimits, Preprocessor, decode_image

LIMITS = ImageLimits(max_bytes=100_000, max_pixels=10_000)


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return start + struct.pack(">I", 100) + b"IDAT"


def test_grey_picture_decodes_to_its_pixels():
    picture = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(decode_image(png(picture), LIMITS, "image"), picture)


def test_sixteen_bit_picture_is_scaled_to_eight():
    deep = np.array([[0, 1000], [2000, 4000]], dtype=np.uint16)
    assert decode_image(png(deep), LIMITS, "image").tolist() == [[0, 64], [128, 255]]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"hello, I am a text file", "not a picture"),
        (png(np.zeros((50, 50), np.uint8))[:60], "truncated"),
        (b"\x00" * 200_000, "bytes"),
        (png(np.zeros((200, 200), np.uint8)), "pixels"),
        (png_header(60_000, 60_000), "pixels"),
        (png_header(10_000, 10_000), "pixels"),
        (png_header(20, 20), "truncated"),
        (png_header(0, 20), "picture"),
        (b"GIF89a" + bytes(100), "not a picture"),
    ],
    ids=[
        "empty",
        "text",
        "truncated",
        "too many bytes",
        "too many pixels",
        "decompression bomb",
        "size that Pillow only warns of",
        "header without pixels",
        "no width",
        "other format",
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_picture_is_refused_with_the_field(data, told):
    with pytest.raises(InvalidInput, match=told) as caught:
        decode_image(data, LIMITS, "images[2].data")
    assert caught.value.field == "images[2].data"


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_no_bytes_whatever_raise_anything_but_invalid_input(data):
    with contextlib.suppress(InvalidInput):
        assert decode_image(png_header(20, 20) + data, LIMITS, "image").shape == (20, 20)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_mask_survives_its_encoding(height, width, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    assert np.array_equal(decode_mask(encode_mask(mask), height, width), mask)


@given(st.text(max_size=30))
@settings(max_examples=200, deadline=None)
def test_text_that_is_no_mask_is_refused(counts):
    with contextlib.suppress(InvalidInput):
        assert decode_mask(counts, 4, 4, "mask").shape == (4, 4)


@pytest.mark.parametrize(
    ("counts", "size"),
    [
        (encode_mask(np.ones((4, 4), bool)), (4, 5)),
        (encode_mask(np.ones((4, 4), bool))[:-1], (4, 4)),
        ("é", (4, 4)),
        ("", (4, 4)),
        ("0" * 40 + "_" * 20, (4, 4)),
        ("PPPPPP4", (4, 4)),
        (encode_mask(np.ones((4, 4), bool)), (0, 4)),
        (encode_mask(np.ones((4, 4), bool)), (-4, -4)),
    ],
    ids=[
        "other size",
        "cut",
        "no ASCII",
        "empty",
        "number without end",
        "number of seven characters",
        "no rows",
        "negative size",
    ],
)
def test_malformed_mask_is_refused_with_the_field(counts, size):
    with pytest.raises(InvalidInput) as caught:
        decode_mask(counts, *size, "segments[1].mask")
    assert caught.value.field.startswith("segments[1].mask")


def test_mask_that_claims_gigabytes_is_refused_before_any_is_taken():
    side = 2**15
    counts = rle_number(side * side)
    with pytest.raises(InvalidInput, match="at most"):
        decode_mask(counts, side, side)


def test_run_that_is_longer_than_the_picture_is_refused():
    with pytest.raises(InvalidInput, match="4×4"):
        decode_mask(rle_number(17), 4, 4)


def rle_number(value: int) -> str:
    """One run in COCO's compressed form: five bits a character, the lowest first."""
    characters = []
    while True:
        bits, value = value & 0x1F, value >> 5
        is_last = value == 0 and not bits & 0x10
        characters.append(chr(48 + (bits if is_last else bits | 0x20)))
        if is_last:
            return "".join(characters)


def test_preprocessing_step_that_is_not_built_is_refused():
    with pytest.raises(Unsupported, match="do_center_crop"):
        Preprocessor.from_config({"do_center_crop": True, "size": {"height": 4, "width": 4}}, 1)


def test_preprocessing_equals_its_formula():
    config = {
        "size": {"height": 2, "width": 2},
        "do_normalize": True,
        "image_mean": [0.5],
        "image_std": [0.25],
    }
    picture = np.array([[0, 255], [51, 102]], np.uint8)
    expected = (picture / 255 - 0.5) / 0.25
    assert np.allclose(Preprocessor.from_config(config, 1)(picture)[0], expected, atol=1e-6)


def test_runs_of_nothing_that_would_fill_the_memory_are_refused_unread():
    with pytest.raises(InvalidInput, match="1×1") as caught:
        decode_mask("0" * 2_000_000 + "1", 1, 1, "mask")
    assert caught.value.field == "mask.counts"


def test_runs_of_nothing_between_others_are_taken():
    """Other tools write them."""
    assert decode_mask("40" + "0" * 8, 2, 2).tolist() == [[False, False], [False, False]]


def test_counting_the_pixels_of_a_long_encoding_keeps_no_list_of_its_runs():
    counts = encode_mask(np.indices((300, 300)).sum(axis=0) % 2 == 1)
    tracemalloc.start()
    try:
        assert _pixel_count(counts, "mask") == 300 * 300
        assert tracemalloc.get_traced_memory()[1] < len(counts)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("channels", [0, 2, 4, None, [3]])
def test_a_model_for_pictures_of_neither_one_nor_three_channels_is_refused(channels):
    with pytest.raises(InvalidInput, match="num_channels"):
        Preprocessor.from_config({"size": {"height": 4, "width": 4}}, channels)


@pytest.mark.parametrize(
    "config",
    [
        {"size": {"height": float("inf"), "width": 4}},
        {"size": {"height": 4, "width": 4}, "rescale_factor": 10**400},
        {"size": {"height": 100_000, "width": 4}},
    ],
    ids=["endless", "no float", "gigabytes"],
)
def test_a_size_or_number_that_no_picture_has_is_refused_with_the_file(config):
    with pytest.raises(InvalidInput) as caught:
        Preprocessor.from_config(config, 3)
    assert caught.value.field == "preprocessor_config.json"

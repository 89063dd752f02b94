"""PNG, JPEG and WebP files: upright, whole, standing still, and looked into before they are decoded."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from plumbline.pictures import PictureError, PictureLimits, decode_picture, read_picture_size
from plumbline.report.pictures import open_picture
from services.common.vision.preprocessing import ImageLimits, decode_image

LIMITS = PictureLimits(max_bytes=100_000, max_pixels=10_000)
ORIENTATION = 0x0112
# Each pixel its own value, and no two ways to turn it alike.
UPRIGHT = np.array([[0, 40, 80], [120, 160, 200]], np.uint8)
AS_STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT, -1),
}


def saved(picture: np.ndarray, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format=file_format, **options)
    return file.getvalue()


def oriented(orientation: int, picture: np.ndarray, file_format: str, **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(picture, file_format, exif=exif, **options)


@pytest.mark.parametrize("orientation", AS_STORED)
@pytest.mark.parametrize(("file_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_picture_is_turned_upright(orientation, file_format, options):
    colours = np.repeat(AS_STORED[orientation][..., None], 3, axis=2)
    data = oriented(orientation, np.ascontiguousarray(colours), file_format, **options)
    assert decode_picture(data, LIMITS)[..., 0].tolist() == UPRIGHT.tolist()


@pytest.mark.parametrize("orientation", AS_STORED)
def test_jpeg_is_turned_upright_for_services_and_client_alike(orientation):
    # Blocks of 16 pixels, so that the encoding changes no value by much.
    large = np.kron(AS_STORED[orientation], np.ones((16, 16), np.uint8))
    data = oriented(orientation, large, "JPEG", quality=95)
    found = decode_image(data, ImageLimits(), "image")
    assert found.shape == (32, 48)
    assert np.abs(found[8::16, 8::16].astype(int) - UPRIGHT).max() < 4
    assert np.array_equal(np.asarray(open_picture(data))[..., 0], found)


def moving(file_format: str) -> bytes:
    file = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(file, format=file_format, save_all=True, append_images=frames[1:], lossless=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("file_format", "told"), [("PNG", "moving"), ("WEBP", "moving"), ("GIF", "not a picture that is taken")]
)
def test_moving_picture_is_refused(file_format, told):
    with pytest.raises(PictureError, match=told):
        decode_picture(moving(file_format), LIMITS)


NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_file_that_is_cut_off_anywhere_is_refused(file_format):
    data = saved(NOISE, file_format)
    for kept in [*range(1, 64), *range(64, len(data) - 2, 61), len(data) - 3]:
        with pytest.raises(PictureError):
            decode_picture(data[:kept], LIMITS)


def test_png_without_its_end_is_refused_though_its_pixels_are_there():
    with pytest.raises(PictureError, match="truncated"):
        decode_picture(saved(NOISE, "PNG")[:-12], LIMITS)


def test_png_of_which_one_bit_fell_over_is_refused():
    data = bytearray(saved(NOISE, "PNG"))
    data[len(data) // 2] ^= 1
    with pytest.raises(PictureError, match="broken"):
        decode_picture(bytes(data), LIMITS)


def png_claiming(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x64IDAT"
    )


def jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(NOISE, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_claiming(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x00\x00\x01\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + sides + bytes(20)


def lossy_webp_claiming(width: int, height: int) -> bytes:
    data = bytearray(saved(NOISE, "WEBP"))
    data[26:30] = struct.pack("<HH", width, height)
    return bytes(data)


@pytest.mark.parametrize("claim", [png_claiming, jpeg_claiming, webp_claiming])
def test_header_that_claims_too_much_is_refused_with_nothing_decoded(claim):
    with pytest.raises(PictureError, match="pixels"):
        decode_picture(claim(50_000, 50_000), PictureLimits())


def test_lossy_webp_that_claims_too_much_is_refused():
    with pytest.raises(PictureError, match="16000×16000 pixels"):
        decode_picture(lossy_webp_claiming(16_000, 16_000), PictureLimits())


@pytest.mark.parametrize(
    "options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}, {"lossless": True, "exif": b"Exif\0\0"}]
)
def test_size_of_every_kind_of_webp_is_read_from_its_header(options):
    assert read_picture_size(saved(NOISE[:30], "WEBP", **options), LIMITS) == (30, 40)


def test_jpeg_of_a_thousand_passes_is_refused():
    data = saved(NOISE, "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    with pytest.raises(PictureError, match="scans"):
        decode_picture(data[:at] + data[at:-2] * 1000 + data[-2:], PictureLimits())


def test_transparency_is_left_out():
    clear = np.dstack([NOISE, np.zeros(NOISE.shape[:2], np.uint8)])
    assert np.array_equal(decode_picture(saved(clear, "PNG"), LIMITS), NOISE)


def test_second_frame_of_a_still_picture_is_refused():
    data = saved(NOISE, "PNG")
    assert np.array_equal(decode_picture(data, LIMITS, frame=1), NOISE)
    with pytest.raises(PictureError, match="frame 2"):
        decode_picture(data, LIMITS, frame=2)

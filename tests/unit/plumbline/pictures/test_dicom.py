"""DICOM files: the greys and colours that the standard's formulas give, whatever the transfer syntax; no word of a patient."""

from __future__ import annotations

import io
import random
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from plumbline.pictures import PictureError, PictureLimits, decode_picture, read_picture_size
from tests.unit.plumbline.pictures.made_dicom import dataset_of, dicom, encoded, written

LIMITS = PictureLimits(max_bytes=200_000, max_pixels=20_000)
RAMP = np.array([[0, 1000, 2000, 3000, 4000]], np.uint16)
COLOURED = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def shown(data: bytes, frame: int = 0) -> list:
    return decode_picture(data, LIMITS, frame).tolist()


def words(*entries: int) -> bytes:
    return np.array(entries, "<u2").tobytes()


def sequence(**elements: object) -> list[Dataset]:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


def test_eight_bits_without_a_window_stay_as_they_are():
    grey = np.array([[3, 7], [100, 250]], np.uint8)
    assert shown(dicom(grey)) == grey.tolist()


def test_monochrome1_is_inverted():
    grey = np.array([[0, 1, 254, 255]], np.uint8)
    assert shown(dicom(grey, PhotometricInterpretation="MONOCHROME1")) == [[255, 254, 1, 0]]


def test_deep_greys_without_a_window_are_stretched_between_the_values_that_are_there():
    assert shown(dicom(RAMP + np.uint16(500), BitsStored=13, HighBit=12)) == [[0, 64, 128, 191, 255]]


def test_padding_is_black_and_does_not_count_for_the_stretch():
    padded = np.array([[65535, 1000, 2000, 3000]], np.uint16)
    for photometric, expected in (("MONOCHROME2", [0, 0, 128, 255]), ("MONOCHROME1", [0, 255, 128, 0])):
        data = dicom(padded, PixelPaddingValue=65535, PhotometricInterpretation=photometric)
        assert shown(data) == [expected]


def test_window_is_applied_to_the_rescaled_values():
    # Stored 0, 1000, … become −1000, −500, 0, 500, 1000; the window of PS3.3 C.11.2.1.2 ends at 0 ± 1000.
    data = dicom(RAMP, RescaleSlope="0.5", RescaleIntercept="-1000", WindowCenter="0", WindowWidth="2000")
    values = RAMP[0] * 0.5 - 1000
    expected = np.round(255 * np.clip((values + 0.5) / 1999 + 0.5, 0, 1))
    assert shown(data) == [expected.tolist()]


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        ("LINEAR", lambda x: np.clip((x - 1999.5) / 999 + 0.5, 0, 1)),
        ("LINEAR_EXACT", lambda x: np.clip((x - 2000) / 1000 + 0.5, 0, 1)),
        ("SIGMOID", lambda x: 1 / (1 + np.exp(-4 * (x - 2000) / 1000))),
    ],
)
def test_window_functions_equal_their_formulas(function, formula):
    values = np.arange(1400, 2600, 40, dtype=np.uint16)[None]
    data = dicom(values, WindowCenter="2000", WindowWidth="1000", VOILUTFunction=function)
    assert shown(data) == np.round(255 * formula(values.astype(float))).tolist()


def test_of_several_windows_the_first_counts():
    one = dicom(RAMP, WindowCenter="2000", WindowWidth="1000")
    several = dicom(RAMP, WindowCenter=["2000", "100"], WindowWidth=["1000", "50"])
    assert shown(one) == shown(several)


def test_voi_table_comes_before_a_window():
    table = sequence(LUTDescriptor=[3, 1000, 8], LUTData=words(0, 100, 255))
    stored = np.array([[0, 1000, 1001, 1002, 3000]], np.uint16)
    data = dicom(stored, VOILUTSequence=table, WindowCenter="5", WindowWidth="5")
    assert shown(data) == [[0, 0, 100, 255, 255]]


def test_modality_table_comes_before_the_window():
    table = sequence(LUTDescriptor=[3, 0, 16], LUTData=words(0, 300, 1000), ModalityLUTType="US")
    data = dicom(
        np.array([[0, 1, 2]], np.uint16),
        ModalityLUTSequence=table,
        WindowCenter="500",
        WindowWidth="1000",
        VOILUTFunction="LINEAR_EXACT",
    )
    assert shown(data) == [[0, round(0.3 * 255), 255]]


def test_signed_pixels_keep_their_order():
    stored = np.array([[-100, 0, 100]], np.int16)
    assert shown(dicom(stored)) == [[0, 128, 255]]


def test_bits_beyond_those_stored_do_not_count():
    # Twelve bits stored; an old overlay stands in the four above.
    stored = np.array([[0xF000, 0x0FFF]], np.uint16)
    assert shown(dicom(stored, BitsStored=12, HighBit=11, WindowCenter="2048", WindowWidth="4096")) == [[0, 255]]


def test_single_bits_are_black_and_white():
    bits = dataset_of(np.zeros((1, 8), np.uint8), BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=b"\x05\x00")
    assert shown(written(bits)) == [[255, 0, 255, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless])
@pytest.mark.parametrize("stored", [RAMP, COLOURED], ids=["grey", "colour"])
def test_lossless_syntaxes_give_the_same_pixels(syntax, stored):
    dataset = dataset_of(stored)
    if syntax == RLELossless:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, encoding_plugin="pydicom")
    assert shown(written(dataset, syntax)) == shown(dicom(stored))


def test_big_endian_pixels_are_turned():
    turned = RAMP.astype(">u2")
    dataset = dataset_of(RAMP, PixelData=turned.tobytes())
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    file = io.BytesIO()
    dataset.save_as(file, implicit_vr=False, little_endian=False, enforce_file_format=True)
    assert shown(file.getvalue()) == shown(dicom(RAMP))


@pytest.mark.parametrize("drawn", [COLOURED, COLOURED[..., 0]], ids=["colour", "grey"])
def test_jpeg_2000_keeps_the_pixels(drawn):
    photometric = "YBR_RCT" if drawn.ndim == 3 else "MONOCHROME2"
    data = encoded(drawn, JPEG2000Lossless, "JPEG2000", PhotometricInterpretation=photometric)
    assert shown(data) == drawn.tolist()


def test_jpeg_2000_of_sixteen_bits_keeps_the_pixels():
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    assert shown(encoded(deep, JPEG2000Lossless, "JPEG2000")) == shown(dicom(deep))


def test_jpeg_comes_close():
    smooth = np.add.outer(np.arange(0, 128, 4), np.arange(0, 128, 4))
    drawn = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2).astype(np.uint8)
    found = decode_picture(encoded(drawn, JPEGBaseline8Bit, "JPEG", PhotometricInterpretation="YBR_FULL_422"), LIMITS)
    assert np.abs(found.astype(int) - drawn).max() < 8


def test_colours_in_planes_and_in_ybr_become_rgb():
    planes = dicom(COLOURED, PlanarConfiguration=1, PixelData=COLOURED.transpose(2, 0, 1).tobytes())
    assert shown(planes) == COLOURED.tolist()
    white, red = np.array([[[255, 128, 128]]], np.uint8), np.array([[[76, 85, 255]]], np.uint8)
    assert shown(dicom(white, PhotometricInterpretation="YBR_FULL")) == [[[255, 255, 255]]]
    assert np.abs(np.array(shown(dicom(red, PhotometricInterpretation="YBR_FULL"))) - [254, 0, 0]).max() <= 1


def test_palette_colours_are_looked_up():
    parts = {}
    for name, entries in (("Red", [0, 65535, 257]), ("Green", [0, 0, 25700]), ("Blue", [65535, 0, 0])):
        parts[f"{name}PaletteColorLookupTableDescriptor"] = [3, 0, 16]
        parts[f"{name}PaletteColorLookupTableData"] = words(*entries)
    data = dicom(np.array([[0, 1, 2]], np.uint8), PhotometricInterpretation="PALETTE COLOR", **parts)
    assert shown(data) == [[[0, 0, 255], [255, 0, 0], [1, 100, 0]]]


FRAMES = np.array([[[1, 2]], [[3, 4]], [[5, 6]]], np.uint8)


def test_frame_is_the_one_that_is_named():
    data = dicom(FRAMES, NumberOfFrames=3)
    assert [shown(data, number) for number in (1, 2, 3)] == FRAMES.tolist()


@pytest.mark.parametrize(
    ("frame", "told"), [(0, "3 frames; expected the number of one"), (4, "holds 3"), (-1, "from 1")]
)
def test_frame_that_is_not_there_or_not_named_is_refused(frame, told):
    with pytest.raises(PictureError, match=told):
        decode_picture(dicom(FRAMES, NumberOfFrames=3), LIMITS, frame)


def test_frames_have_their_own_window_and_rescaling():
    def group(center: str) -> Dataset:
        return sequence(FrameVOILUTSequence=sequence(WindowCenter=center, WindowWidth="10"))[0]

    shared = sequence(
        PixelValueTransformationSequence=sequence(RescaleSlope="10", RescaleIntercept="0", RescaleType="US")
    )
    data = dicom(
        FRAMES,
        NumberOfFrames=3,
        SharedFunctionalGroupsSequence=shared,
        PerFrameFunctionalGroupsSequence=[group("1000"), group("35"), group("-5")],
    )
    assert [shown(data, number) for number in (1, 2, 3)] == [[[0, 0]], [[0, 255]], [[255, 255]]]


def test_size_is_known_without_the_pixels():
    data = dicom(np.zeros((30, 40), np.uint16))
    assert read_picture_size(data[: data.index(b"\xe0\x7f\x10\x00")], LIMITS) == (30, 40)


def segmented() -> dict[str, object]:
    """A palette of a few bytes that says it is long."""
    return {f"{colour}PaletteColorLookupTableDescriptor": [0, 0, 16] for colour in ("Red", "Green", "Blue")} | {
        f"Segmented{colour}PaletteColorLookupTableData": np.array([1, 65535, 9] * 99, "<u2").tobytes()
        for colour in ("Red", "Green", "Blue")
    }


def run_lengths(count: int) -> bytes:
    """An RLE frame of one segment that expands to 128 × `count` bytes."""
    return np.array([1, 64] + [0] * 14, "<u4").tobytes() + b"\x81\x00" * count


def overlapping_run_lengths() -> bytes:
    """An RLE frame whose segments begin at its first byte and at its end in turn; each byte expands to nothing."""
    end = 64 + 1000
    return np.array([15] + [64, end] * 7 + [64], "<u4").tobytes() + b"\x80" * 1000


def rle(frame: bytes) -> bytes:
    dataset = dataset_of(np.zeros((8, 16), np.uint8), PixelData=encapsulate([frame]))
    dataset["PixelData"].VR = "OB"
    return written(dataset, RLELossless)


def test_run_lengths_that_fill_the_picture_are_taken():
    assert shown(rle(run_lengths(1))) == np.zeros((8, 16)).tolist()


def of_other_size() -> bytes:
    data = encoded(np.zeros((60, 60), np.uint8), JPEG2000, "JPEG2000")
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.Rows = dataset.Columns = 10
    return written(dataset, JPEG2000)


GREY = np.zeros((4, 4), np.uint8)
BAD = {
    "cut in the pixels": (lambda: dicom(GREY)[:-6], "truncated"),
    "cut before the pixels": (lambda: dicom(GREY)[:-30], "truncated"),
    "cut in the header": (lambda: dicom(GREY)[:200], "transfer syntax|truncated"),
    "too many pixels": (lambda: dicom(GREY, Rows=50_000, Columns=50_000), "50000×50000 pixels; at most"),
    "no rows": (lambda: dicom(GREY, Rows=0), "0 pixels"),
    "JPEG-LS": (lambda: encoded(GREY, JPEGLSLossless, "JPEG"), "JPEG-LS Lossless Image Compression is not taken"),
    "deflated": (
        lambda: dicom(GREY, DeflatedExplicitVRLittleEndian),
        "Deflated Explicit VR Little Endian is not taken",
    ),
    "unknown syntax": (
        lambda: dicom(GREY).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.9.9.9\x00"),
        "other name",
    ),
    "frame of another size": (of_other_size, "another size"),
    "run lengths beyond the picture": (lambda: rle(run_lengths(2000)), "more pixels than"),
    "run lengths that overlap": (lambda: rle(overlapping_run_lengths()), "not in order"),
    "no pixels": (lambda: written(without(GREY, "PixelData")), "no integer pixels"),
    "strange colours": (lambda: dicom(COLOURED, PhotometricInterpretation="HSV"), "photometric interpretation"),
    "too few samples": (lambda: dicom(COLOURED, PhotometricInterpretation="MONOCHROME2"), "samples"),
    "32 bits": (lambda: dicom(GREY, BitsAllocated=32, BitsStored=32, HighBit=31), "bits per sample"),
    "shifted bits": (lambda: dicom(RAMP, BitsStored=12, HighBit=15), "high bit"),
    "window without width": (lambda: dicom(RAMP, WindowCenter="1", WindowWidth="0"), "window width"),
    "unknown window": (
        lambda: dicom(RAMP, WindowCenter="1", WindowWidth="9", VOILUTFunction="CUBIC"),
        "VOI LUT function",
    ),
    "short table": (
        lambda: dicom(RAMP, VOILUTSequence=sequence(LUTDescriptor=[9, 0, 8], LUTData=words(0, 1))),
        "shorter than it says",
    ),
    "segmented palette": (lambda: dicom(GREY, PhotometricInterpretation="PALETTE COLOR", **segmented()), "palette"),
}


def without(stored: np.ndarray, keyword: str) -> Dataset:
    dataset = dataset_of(stored)
    del dataset[keyword]
    return dataset


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_refused_with_the_reason(name):
    make, told = BAD[name]
    with pytest.raises(PictureError, match=told):
        decode_picture(make(), LIMITS)


DECODE_ALL = """
import pathlib, sys, traceback
from plumbline.pictures import PictureError, PictureLimits, decode_picture
refused = 0
for path in pathlib.Path(sys.argv[1]).iterdir():
    try:
        decode_picture(path.read_bytes(), PictureLimits())
    except PictureError:
        refused += 1
        traceback.print_exc()
print("refused", refused)
"""


def test_no_damage_to_a_file_tells_of_the_patient(tmp_path):
    """In a process of its own, with all that it writes: pydicom's warnings quote what they warn of."""
    dataset = dataset_of(RAMP, PatientName="MARKER^MARKER", PatientID="MARKER", InstitutionName="MARKER")
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.WindowCenter, dataset.WindowWidth = "20", "10"
    good = written(dataset)
    # The name where numbers and codes are expected: lengths stay as they were.
    files = [good.replace(b"DS\x02\x0020", b"DS\x02\x00MA"), good.replace(b"MONOCHROME2", b"MARKERCHROM")]
    draw = random.Random(0)
    for _ in range(400):
        broken = bytearray(good)
        for _ in range(draw.randint(1, 6)):
            broken[draw.randrange(132, len(good))] = draw.choice((0, 77, 255, draw.randrange(256)))
        files.append(bytes(broken))
    for number, data in enumerate(files):
        (tmp_path / f"{number}.dcm").write_bytes(data)
    ran = subprocess.run([sys.executable, "-c", DECODE_ALL, tmp_path], capture_output=True, text=True, check=True)
    assert int(ran.stdout.rpartition(" ")[2]) > 50
    assert "MARKER" not in ran.stdout + ran.stderr

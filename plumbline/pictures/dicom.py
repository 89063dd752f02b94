"""DICOM, through pydicom, as a viewer shows it: modality values, then window or VOI table, MONOCHROME1 inverted, colours as RGB.

Of a file's elements only those of `_READ` are looked at: none of them tells of a patient. Text is not burnt in, overlays and colour profiles
are left out. A window of several is the first. Without a window or a VOI table, pixels of up to 8 bits keep their whole range; deeper ones are
stretched between the smallest and the largest value that is there. Padding is black.
"""

from __future__ import annotations

import io
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.filereader import read_dataset
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    RLELossless,
    UID_dictionary,
)

from plumbline.pictures.limits import PictureError
from plumbline.pictures.raster import check_scans

# pydicom's warnings quote values, and a broken file may have a patient's name where a number should be. They are for a whole process or not at all.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module=rf"pydicom|{re.escape(__name__)}")

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
_DECODERS = {syntax: "" for syntax in _NATIVE} | {
    RLELossless: "pydicom",
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: "pillow",
    JPEG2000Lossless: "pillow",
    JPEG2000: "pillow",
}
"""Transfer syntaxes that are taken and who decodes them: always the same, whatever else is installed. Deflated files are not among them, for
pydicom inflates them without a bound."""
_GREY = ("MONOCHROME1", "MONOCHROME2")
_PALETTE = "PALETTE COLOR"
_COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_COLOURS = ("Red", "Green", "Blue")
_READ = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
    "PixelData",
]
_FILE_META_GROUP, _FILE_META_OFFSET = 2, 132
_BLOCK_PIXELS = 2**20
_RLE_HEADER_BYTES = 64


def read_size(data: bytes) -> tuple[int, int]:
    """(height, width) in pixels as the header says."""
    dataset = _read(data, stop_before_pixels=True)
    with _all_told("broken or truncated DICOM header"):
        return int(dataset.Rows), int(dataset.Columns)


def decode(data: bytes, frame: int) -> np.ndarray:
    """Frame number `frame`, 0 for the only one, as uint8, (height, width) when grey, else (height, width, 3)."""
    dataset = _read(data)
    with _all_told("broken or truncated DICOM header"):
        index = _find_frame(int(dataset.get("NumberOfFrames") or 1), frame)
        _check_kind(dataset)
    syntax = dataset.file_meta.TransferSyntaxUID
    with _all_told(
        f"pixels that are broken, truncated or of a kind that is not taken, in transfer syntax {syntax.name}"
    ):
        if syntax not in _NATIVE:
            _check_encoded(dataset, index)
        stored = pixel_array(dataset, index=index, decoding_plugin=_DECODERS[syntax])
    with _all_told("values that do not fit its pixels: modality or VOI table, rescaling, window or palette"):
        if dataset.PhotometricInterpretation in _GREY:
            return _draw_greys(stored, dataset, index)
        return _draw_colours(stored, dataset)


def _read(data: bytes, stop_before_pixels: bool = False) -> Dataset:
    with _all_told("broken or truncated DICOM header"):
        _check_syntax(data)
        return pydicom.dcmread(io.BytesIO(data), stop_before_pixels=stop_before_pixels, specific_tags=_READ)


def _check_syntax(data: bytes) -> None:
    file = io.BytesIO(data)
    file.seek(_FILE_META_OFFSET)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag.group != _FILE_META_GROUP)
    syntax = UID(meta.get("TransferSyntaxUID") or "")
    if syntax not in _DECODERS:
        name = UID_dictionary[syntax][0] if syntax in UID_dictionary else "of another name"
        expected = ", ".join(known.name for known in _DECODERS)
        raise PictureError(f"transfer syntax {name} is not taken; expected one of {expected}")


def _find_frame(count: int, frame: int) -> int:
    if count < 1:
        raise PictureError("a number of frames below 1")
    if frame == 0 and count > 1:
        raise PictureError(f"{count} frames; expected the number of one, from 1")
    if frame > count:
        raise PictureError(f"frame {frame} of a file that holds {count}")
    return max(frame, 1) - 1


def _check_kind(dataset: Dataset) -> None:
    if "PixelData" not in dataset:
        raise PictureError("DICOM: no integer pixels in it, or truncated before them")
    samples = 1 if dataset.PhotometricInterpretation in (*_GREY, _PALETTE) else 3
    if samples == 3 and dataset.PhotometricInterpretation not in _COLOUR:
        raise PictureError(f"photometric interpretation: expected one of {', '.join((*_GREY, _PALETTE, *_COLOUR))}")
    if int(dataset.SamplesPerPixel) != samples:
        raise PictureError("a number of samples per pixel that its photometric interpretation does not have")
    if int(dataset.BitsAllocated) not in (1, 8, 16) or not 1 <= int(dataset.BitsStored) <= int(dataset.BitsAllocated):
        raise PictureError("bits per sample: expected 1, 8 or 16 allocated, and no more stored")
    if int(dataset.get("HighBit", dataset.BitsStored - 1)) != int(dataset.BitsStored) - 1:
        raise PictureError("high bit: expected the number of stored bits less one")


def _check_encoded(dataset: Dataset, index: int) -> None:
    """The frame may claim other sizes than the header around it."""
    frame = get_frame(dataset.PixelData, index, number_of_frames=int(dataset.get("NumberOfFrames") or 1))
    if dataset.file_meta.TransferSyntaxUID == RLELossless:
        _check_run_lengths(frame, dataset.Rows * dataset.Columns)
        return
    check_scans(frame)
    encoded = Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000"))
    if (encoded.width, encoded.height, len(encoded.getbands())) != (
        dataset.Columns,
        dataset.Rows,
        dataset.SamplesPerPixel,
    ):
        raise PictureError("pixels of another size or number of samples than the DICOM header says")


def _check_run_lengths(frame: bytes, pixel_count: int) -> None:
    """pydicom expands a segment before it looks at its length: two bytes may become 128."""
    count = int.from_bytes(frame[:4], "little")
    starts = np.frombuffer(frame[4:_RLE_HEADER_BYTES], "<u4")[:count].tolist()
    ends = [*starts[1:], len(frame)]
    for start, end in zip(starts, ends, strict=True):
        if start > end:  # else the same bytes could be counted for many segments, for seconds each time
            raise PictureError("run lengths whose segments are not in order")
        expanded = 0
        while start < end and expanded <= pixel_count + 1:  # one for padding
            control = frame[start]
            if control < 128:
                expanded, start = expanded + control + 1, start + control + 2
            elif control > 128:
                expanded, start = expanded + 257 - control, start + 2
            else:
                start += 1
        if expanded > pixel_count + 1:
            raise PictureError("more pixels than the DICOM header says")


def _draw_greys(stored: np.ndarray, dataset: Dataset, index: int) -> np.ndarray:
    bits = int(dataset.BitsStored)
    lowest = -(2 ** (bits - 1)) if dataset.PixelRepresentation else 0
    if stored.min() < lowest or stored.max() >= lowest + 2**bits:
        raise PictureError("pixels beyond the bits that the DICOM header says are stored")
    # Every value that a pixel may have is drawn once, exactly; the picture looks it up.
    domain = np.arange(lowest, lowest + 2**bits)
    is_padding = _find_padding(domain, dataset)
    values = _to_modality(domain, dataset, index)
    fractions = _apply_voi(values, dataset, index)
    if fractions is None:
        fractions = _stretch(values, _find_present(stored, lowest, bits) & ~is_padding if bits > 8 else None)
    if not np.isfinite(fractions).all():
        raise PictureError("values that are no finite numbers")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        fractions = 1 - fractions
    fractions[is_padding] = 0
    table = np.round(fractions * 255).astype(np.uint8)
    drawn = np.empty(stored.shape, np.uint8)
    for rows in _blocks(stored):
        drawn[rows] = table[stored[rows].astype(np.intp) - lowest]
    return drawn


def _draw_colours(stored: np.ndarray, dataset: Dataset) -> np.ndarray:
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == _PALETTE:
        stored = apply_color_lut(stored, dataset)
        bits = stored.dtype.itemsize * 8
    if bits == 8:
        return stored.astype(np.uint8, copy=False)
    drawn = np.empty(stored.shape, np.uint8)
    for rows in _blocks(stored):
        drawn[rows] = np.round(stored[rows] * (255 / (2**bits - 1)))
    return drawn


def _blocks(stored: np.ndarray) -> Iterator[slice]:
    """Some rows at a time: index arrays take eight bytes a pixel."""
    step = max(1, _BLOCK_PIXELS // stored.shape[1])
    for start in range(0, len(stored), step):
        yield slice(start, start + step)


def _find_present(stored: np.ndarray, lowest: int, bits: int) -> np.ndarray:
    """Which of the possible values the picture has, bool (values,)."""
    present = np.zeros(2**bits, dtype=bool)
    for rows in _blocks(stored):
        present[stored[rows].astype(np.intp) - lowest] = True
    return present


def _find_padding(domain: np.ndarray, dataset: Dataset) -> np.ndarray:
    if dataset.get("PixelPaddingValue") is None:
        return np.zeros(domain.shape, dtype=bool)
    ends = [int(dataset.PixelPaddingValue), int(dataset.get("PixelPaddingRangeLimit", dataset.PixelPaddingValue))]
    return (domain >= min(ends)) & (domain <= max(ends))


def _to_modality(domain: np.ndarray, dataset: Dataset, index: int) -> np.ndarray:
    """What the stored numbers measure, float64 (PS3.3 C.11.1)."""
    if dataset.get("ModalityLUTSequence"):
        return _look_up(domain, dataset.ModalityLUTSequence[0])[0]
    told = _find_macro(dataset, index, "PixelValueTransformationSequence")
    slope, intercept = _first_number(told, "RescaleSlope", 1), _first_number(told, "RescaleIntercept", 0)
    return domain * slope + intercept


def _apply_voi(values: np.ndarray, dataset: Dataset, index: int) -> np.ndarray | None:
    """Greys from 0 to 1 by table or window (PS3.3 C.11.2); None when the file has neither."""
    if dataset.get("VOILUTSequence"):
        shown, bits = _look_up(values, dataset.VOILUTSequence[0])
        return np.clip(shown / (2**bits - 1), 0, 1)
    told = _find_macro(dataset, index, "FrameVOILUTSequence")
    if told.get("WindowCenter") is None or told.get("WindowWidth") is None:
        return None
    center, width = _first_number(told, "WindowCenter", 0), _first_number(told, "WindowWidth", 0)
    function = told.get("VOILUTFunction") or "LINEAR"
    if (width < 1 and function == "LINEAR") or width <= 0:
        raise PictureError("window width: expected at least 1 (above 0 unless LINEAR)")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - center) / width + 0.5, 0, 1)
    if function != "LINEAR":
        raise PictureError("VOI LUT function: expected LINEAR, LINEAR_EXACT or SIGMOID")
    if width == 1:
        return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)


def _stretch(values: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Greys from 0 to 1 between the smallest and the largest of `values`, of those `present` when given."""
    seen = values if present is None else values[present]
    if seen.size == 0 or seen.min() == seen.max():
        return np.zeros(values.shape)
    return np.clip((values - seen.min()) / (seen.max() - seen.min()), 0, 1)


def _look_up(values: np.ndarray, item: Dataset) -> tuple[np.ndarray, int]:
    """`values` through a table, float64, and the bits of its entries; what lies outside takes the table's first or last entry."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    count = count or 2**16
    data = item.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) == count else "<u2")
    entries = np.asarray(data, dtype=np.float64)
    if len(entries) < count or not 8 <= bits <= 16:
        raise PictureError("a table that is shorter than it says")
    places = np.clip(np.floor(values) - first, 0, count - 1)
    return entries[places.astype(np.intp)], bits


def _find_macro(dataset: Dataset, index: int, keyword: str) -> Dataset:
    """Where the values of frame `index` stand: its own group, the one that all frames share, or the file's first level."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", index), ("SharedFunctionalGroupsSequence", 0)):
        found = dataset[groups].value[place].get(keyword) if dataset.get(groups) else None
        if found:
            return found[0]
    return dataset


def _first_number(told: Dataset, keyword: str, default: float) -> float:
    value = told.get(keyword)
    if value is None:
        return default
    number = float(value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value)
    if not math.isfinite(number):
        raise PictureError("values that are no finite numbers")
    return number


@contextmanager
def _all_told(fault: str) -> Iterator[None]:
    """Whatever pydicom raises is the file's fault; its own words may quote the file."""
    try:
        with np.errstate(all="ignore"):
            yield
    except PictureError:
        raise
    except Exception:
        raise PictureError(f"DICOM: {fault}") from None

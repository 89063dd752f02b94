"""Requests that no honest caller sends, each from its seed and number alone: `make_bad_request(7, seed=0)` is the same on every machine.

Pictures that are cut, changed or lie about their size; wrong names, versions, labels and numbers; too many, too few and too large pictures;
bytes that are no message at all. A changed byte may leave a picture that is sound, so some are answered.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from plumbline.explainer.v1 import explainer_service_pb2 as pb

PATIENT = "BAGGINS^FRODO"
"""Stands in every DICOM file; may never stand in an answer or a log."""
_SIDE_PX = 28
_MIB = 2**20


@dataclass(frozen=True)
class BadRequest:
    """A method's name, the message as bytes, how long the caller waits (seconds), and what is bad about it."""

    kind: str
    method: str
    message: bytes
    timeout_s: float = 60.0


def make_bad_request(number: int, seed: int, model: str) -> BadRequest:
    """Request `number` of the series that `seed` begins, to a model that is served."""
    rng = random.Random(f"{seed}/{number}")
    kind = rng.choices(list(_MAKERS), [weight for weight, _ in _MAKERS.values()])[0]
    return _MAKERS[kind][1](kind, model, rng)


def _picture_request(change: Callable[[random.Random], bytes]) -> Callable[[str, str, random.Random], BadRequest]:
    """One changed picture among up to three sound ones."""

    def make(kind: str, model: str, rng: random.Random) -> BadRequest:
        files = [good_picture(rng.choice(list(_ENCODERS)), rng.randrange(8)) for _ in range(rng.randint(0, 3))]
        files.insert(rng.randint(0, len(files)), change(rng))
        return _ask(
            kind, rng, {"name": model}, images=[{"data": data, "id": str(place)} for place, data in enumerate(files)]
        )

    return make


def _ask(kind: str, rng: random.Random, model: dict[str, object], images: list, **others: object) -> BadRequest:
    method = "Explain" if others else rng.choice(["Predict", "Explain"])
    message_type = {"Predict": pb.PredictRequest, "Explain": pb.ExplainRequest}[method]
    return BadRequest(kind, method, message_type(model=model, images=images, **others).SerializeToString())


@lru_cache(maxsize=256)
def good_picture(encoding: str, number: int) -> bytes:
    """A sound file of 28 × 28 pixels."""
    drawn = np.random.default_rng(number).integers(0, 256, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    return _ENCODERS[encoding](drawn)


def _save(drawn: np.ndarray, file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(drawn).save(file, format=file_format, **options)
    return file.getvalue()


def _with_exif(drawn: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _save(drawn, "JPEG", exif=exif)


def _dicom(drawn: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: object) -> bytes:
    """A file that names a patient. `drawn` is grey or RGB; compressed where `syntax` says so."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.PatientName = dataset.PatientID = PATIENT
    dataset.Rows, dataset.Columns = drawn.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if drawn.ndim == 3 else (1, "MONOCHROME1")
    if drawn.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = drawn.dtype.itemsize * 8
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, 0
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    frames = {JPEG2000Lossless: "JPEG2000", JPEGBaseline8Bit: "JPEG"}
    dataset.PixelData = encapsulate([_save(drawn, frames[syntax])]) if syntax in frames else drawn.tobytes()
    dataset["PixelData"].VR = "OB" if drawn.dtype == np.uint8 else "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if syntax == RLELossless:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _deep(drawn: np.ndarray) -> np.ndarray:
    return drawn[..., 0].astype(np.uint16) * 16


_ENCODERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "png": lambda drawn: _save(drawn, "PNG"),
    "grey png": lambda drawn: _save(drawn[..., 0], "PNG"),
    "deep png": lambda drawn: _save(_deep(drawn), "PNG"),
    "jpeg": lambda drawn: _save(drawn, "JPEG"),
    "progressive jpeg": lambda drawn: _save(drawn, "JPEG", progressive=True),
    "turned jpeg": _with_exif,
    "webp": lambda drawn: _save(drawn, "WEBP"),
    "lossless webp": lambda drawn: _save(drawn, "WEBP", lossless=True),
    "dicom": lambda drawn: _dicom(
        _deep(drawn), WindowCenter="2000", WindowWidth="3000", RescaleSlope="1", RescaleIntercept="0"
    ),
    "colour dicom": _dicom,
    "run-length dicom": lambda drawn: _dicom(_deep(drawn), RLELossless),
    "jpeg dicom": lambda drawn: _dicom(drawn[..., 0], JPEGBaseline8Bit),
    "jpeg 2000 dicom": lambda drawn: _dicom(_deep(drawn), JPEG2000Lossless),
}


def _any_good(rng: random.Random) -> bytes:
    return good_picture(rng.choice(list(_ENCODERS)), rng.randrange(8))


def _cut(rng: random.Random) -> bytes:
    data = _any_good(rng)
    return data[: rng.randrange(len(data))]


def _change_bytes(rng: random.Random) -> bytes:
    data = bytearray(_any_good(rng))
    # Half of the time where headers are.
    end = len(data) if rng.random() < 0.5 else min(len(data), 700)
    for _ in range(rng.choice((1, 2, 5, 20))):
        data[rng.randrange(end)] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    return bytes(data)


def _splice(rng: random.Random) -> bytes:
    """Pieces left out, put in twice, or taken from another file."""
    one, other = _any_good(rng), _any_good(rng)
    at, to, start = rng.randrange(len(one)), rng.randrange(len(one)), rng.randrange(len(other))
    return one[:at] + other[start : start + rng.randrange(200)] + one[to:]


def _other_bytes(rng: random.Random) -> bytes:
    drawn = np.zeros((8, 8, 3), np.uint8)
    choices: list[Callable[[], bytes]] = [
        lambda: b"",
        lambda: b"no picture at all",
        lambda: rng.randbytes(rng.randrange(1, 5000)),
        lambda: _any_good(rng)[: rng.randrange(3, 13)] + rng.randbytes(rng.randrange(300)),
        lambda: bytes(128) + b"DICM" + rng.randbytes(rng.randrange(300)),
        lambda: _save(drawn, "GIF"),
        lambda: _save(drawn, "BMP"),
        lambda: _save(drawn, "TIFF"),
        lambda: b"%PDF-1.7\n" + rng.randbytes(100),
        lambda: bytes(rng.choice((1, 131, 132, 4096))),
    ]
    return rng.choice(choices)()


def _claim_size(rng: random.Random) -> bytes:
    """A header that claims more pixels than there are: up to the bound, or far beyond."""
    width, height = (rng.choice((0, 1, 29, 4000, 5600, 16_000, 50_000, 65_535)) for _ in range(2))
    encoding = rng.choice(["png", "jpeg", "webp", "lossless webp", "extended webp", "dicom", "jpeg 2000 dicom"])
    if encoding == "extended webp":
        sides = (max(width, 1) - 1).to_bytes(3, "little") + (max(height, 1) - 1).to_bytes(3, "little")
        return b"RIFF\x00\x10\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + sides + bytes(40)
    data = bytearray(good_picture(encoding, rng.randrange(8)))
    if encoding == "png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif encoding == "jpeg":
        at = data.index(b"\xff\xc0")
        data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    elif encoding == "webp":
        data[26:30] = struct.pack("<HH", width, height)
    elif encoding == "lossless webp":
        data[21:25] = struct.pack("<I", (width & 0x3FFF) | (height & 0x3FFF) << 14)
    else:
        for tag, value in ((b"\x28\x00\x10\x00US\x02\x00", height), (b"\x28\x00\x11\x00US\x02\x00", width)):
            at = data.index(tag) + len(tag)
            data[at : at + 2] = struct.pack("<H", value)
    return bytes(data)


def _odd_dicom(rng: random.Random) -> bytes:
    """Sound as a file, with elements that do not go together."""
    drawn = np.zeros((_SIDE_PX, _SIDE_PX), np.uint16)
    elements: list[dict[str, object]] = [
        {"BitsAllocated": rng.choice((0, 1, 7, 8, 32, 64))},
        {"BitsStored": rng.choice((0, 1, 17, 200))},
        {"HighBit": rng.choice((0, 3, 200))},
        {"SamplesPerPixel": rng.choice((0, 2, 3, 4, 999))},
        {"PhotometricInterpretation": rng.choice(("RGB", "YBR_PARTIAL_420", "PALETTE COLOR", PATIENT[:8]))},
        {"PixelRepresentation": rng.choice((1, 2, 77))},
        {"NumberOfFrames": rng.choice((0, -1, 2, 2**31 - 1))},
        {"WindowCenter": "1", "WindowWidth": rng.choice(("0", "-5", "1e308", "0.1"))},
        {"RescaleSlope": rng.choice(("0", "1e308", "-1e-300")), "RescaleIntercept": rng.choice(("0", "-1e308"))},
        {"PixelData": rng.randbytes(rng.randrange(2000) * 2)},
        {"VOILUTSequence": _tables(rng)},
        {"ModalityLUTSequence": _tables(rng)},
    ]
    chosen = rng.choice(elements)
    return _dicom(drawn, **chosen)


def _tables(rng: random.Random) -> list[Dataset]:
    table = Dataset()
    table.LUTDescriptor = [rng.choice((0, 1, 9, 65_535)), rng.choice((0, 30_000)), rng.choice((0, 1, 8, 16, 99))]
    table.LUTData = rng.randbytes(rng.choice((0, 2, 18, 1000)))
    return [table] * rng.choice((0, 1, 2))


def _moving(rng: random.Random) -> bytes:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, format=rng.choice(["PNG", "WEBP", "GIF"]), save_all=True, append_images=frames[1:])
    return file.getvalue()


def _large_file(rng: random.Random) -> bytes:
    return _any_good(rng) + bytes(16 * _MIB)


def _sound(rng: random.Random, count: int = 1) -> list[dict[str, object]]:
    return [{"data": good_picture("grey png", rng.randrange(8))} for _ in range(count)]


_ODD_NAMES = ("", "nobody", "../../etc", "DIGITS", "digits\x00", "d" * 10_000, "ﬁgures", "a/b", " ", "%s%n")


def _wrong_model(kind: str, model: str, rng: random.Random) -> BadRequest:
    wrong = rng.choice(
        [
            {"name": rng.choice(_ODD_NAMES)},
            {"name": model, "version": rng.choice((-1, 99, 2**62, -(2**63)))},
            {"name": model, "digest": rng.choice(("sha256:0", "x" * 5000, "sha256:" + "0" * 64))},
        ]
    )
    return _ask(kind, rng, wrong, images=_sound(rng))


def _wrong_label(kind: str, model: str, rng: random.Random) -> BadRequest:
    label = rng.choice(("eleven", "-1", "10", " 3", "٣", "3\n", "x" * 100_000))
    return _ask(kind, rng, {"name": model}, images=_sound(rng), target_label=label)


def _wrong_number(kind: str, model: str, rng: random.Random) -> BadRequest:
    wrong: dict[str, object] = rng.choice(
        [
            {"segmentation": {"max_segments": rng.choice((-1, 7, 2**31 - 1, -(2**31)))}},
            {"segmentation": {"kept_evidence": rng.choice((-0.1, 1.1, float("nan"), float("inf"), -float("inf")))}},
            {"method": rng.choice((-1, 77, 2**31 - 1))},
        ]
    )
    return _ask(kind, rng, {"name": model}, images=_sound(rng), **wrong)


def _wrong_frame(kind: str, model: str, rng: random.Random) -> BadRequest:
    frame = rng.choice((-1, 2, 2**31 - 1, -(2**31)))
    return _ask(kind, rng, {"name": model}, images=[{"data": _any_good(rng), "frame": frame}])


def _wrong_count(kind: str, model: str, rng: random.Random) -> BadRequest:
    return _ask(kind, rng, {"name": model}, images=_sound(rng, rng.choice((0, 257, 1000))))


def _too_many_pixels(kind: str, model: str, rng: random.Random) -> BadRequest:
    return _ask(kind, rng, {"name": model}, images=[{"data": _large_png()}] * rng.choice((4, 8)))


@lru_cache(maxsize=1)
def _large_png() -> bytes:
    return _save(np.zeros((5500, 5500), np.uint8), "PNG")


def _large_message(kind: str, model: str, rng: random.Random) -> BadRequest:
    return _ask(kind, rng, {"name": model}, images=[{"data": bytes(65 * _MIB)}])


def _no_message(kind: str, model: str, rng: random.Random) -> BadRequest:
    """Bytes that are no message, or cut off in the middle of one."""
    whole = _ask(kind, rng, {"name": model}, images=_sound(rng)).message
    message = rng.choice([rng.randbytes(rng.randrange(1, 400)), whole[: rng.randrange(1, len(whole))]])
    return BadRequest(kind, rng.choice(["Predict", "Explain", "ListModels"]), message)


def _impatient(kind: str, model: str, rng: random.Random) -> BadRequest:
    request = pb.ExplainRequest(model={"name": model}, images=_sound(rng, rng.choice((1, 8, 32))))
    return BadRequest(kind, "Explain", request.SerializeToString(), rng.choice((0.001, 0.005, 0.02, 0.1)))


def _wrong_publication(kind: str, model: str, rng: random.Random) -> BadRequest:
    request = pb.PublishModelRequest(
        name=rng.choice((model, *_ODD_NAMES)),
        bundle_path=rng.choice(("", "../../etc", "/etc", "models/none", "a\x00b", "x" * 5000, ".")),
        expected_champion_version=rng.choice((0, 1, -1, 2**62)),
        idempotency_key=rng.choice(("", "key", "k" * 10_000, "../key")),
    )
    return BadRequest(kind, "PublishModel", request.SerializeToString())


def _wrong_rollback(kind: str, model: str, rng: random.Random) -> BadRequest:
    request = pb.RollBackModelRequest(
        name=rng.choice((model, *_ODD_NAMES)),
        version=rng.choice((0, -1, 99)),
        expected_champion_version=rng.choice((0, 1, -1, 99)),
        reason=rng.choice(("", "because", "r" * 2000)),
        idempotency_key=rng.choice(("", "key", "k" * 10_000)),
    )
    return BadRequest(kind, "RollBackModel", request.SerializeToString())


_MAKERS: dict[str, tuple[float, Callable[[str, str, random.Random], BadRequest]]] = {
    "picture cut off": (12, _picture_request(_cut)),
    "picture with changed bytes": (20, _picture_request(_change_bytes)),
    "picture out of pieces": (10, _picture_request(_splice)),
    "picture that claims a size": (12, _picture_request(_claim_size)),
    "DICOM elements at odds": (10, _picture_request(_odd_dicom)),
    "no picture": (7, _picture_request(_other_bytes)),
    "moving picture": (2, _picture_request(_moving)),
    "large file": (0.3, _picture_request(_large_file)),
    "too many pixels together": (0.5, _too_many_pixels),
    "message over 64 MiB": (0.3, _large_message),
    "wrong number of pictures": (3, _wrong_count),
    "wrong model": (5, _wrong_model),
    "wrong label": (3, _wrong_label),
    "wrong number": (3, _wrong_number),
    "wrong frame": (3, _wrong_frame),
    "no message": (4, _no_message),
    "caller who does not wait": (2, _impatient),
    "wrong publication": (2, _wrong_publication),
    "wrong rollback": (1, _wrong_rollback),
}
"""What is bad, how often of about a hundred, and how it is made."""

"""DICOM files with known pixels, written by pydicom."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid


def dicom(stored: np.ndarray, syntax: UID = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A file that holds `stored`, (rows, columns), (rows, columns, 3) or, with NumberOfFrames, (frames, rows, columns). `elements` come over what follows from it."""
    return written(dataset_of(stored, **elements), syntax)


def dataset_of(stored: np.ndarray, **elements: Any) -> Dataset:
    bits = stored.dtype.itemsize * 8
    is_colour = stored.ndim > 2 and stored.shape[-1] == 3
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    dataset.Rows, dataset.Columns = stored.shape[-3:-1] if is_colour else stored.shape[-2:]
    dataset.SamplesPerPixel = 3 if is_colour else 1
    if is_colour:
        dataset.PlanarConfiguration = 0
    dataset.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit = bits - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def written(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def encoded(drawn: np.ndarray, syntax: UID, file_format: str, **elements: Any) -> bytes:
    """A file whose frame is `drawn` as Pillow encodes it."""
    frame = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {"irreversible": False}
    Image.fromarray(drawn).save(frame, format=file_format, **options)
    dataset = dataset_of(drawn, PixelData=encapsulate([frame.getvalue()]), **elements)
    dataset["PixelData"].VR = "OB"
    return written(dataset, syntax)

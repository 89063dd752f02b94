"""From an encoded picture to the tensor a model takes, as the bundle's `preprocessor_config.json` says.

Sizes are checked in the file's header before a pixel is decoded.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from services.common.runtime.errors import InvalidInput, Overloaded
from services.common.vision.processor_steps import FILE, complete_steps, read_size

FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True)
class ImageLimits:
    """What a service takes: bytes of an encoded file, pixels of a picture, pixels of all pictures of a request."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 32_000_000
    max_request_pixels: int = 100_000_000


def read_pixel_count(data: bytes, limits: ImageLimits, field: str) -> int:
    """Pixels of the picture as its header says, nothing decoded.

    Raises
    ------
    InvalidInput
        At `field`, when the bytes are empty, too many, no PNG, JPEG or WebP, or claim too many pixels.
    """
    with _told_at(field, limits):
        picture = _open(data, limits, field)
        return picture.width * picture.height


def check_request_pixels(files: Sequence[tuple[str, bytes]], limits: ImageLimits) -> None:
    """Look into the header of every (field, file), so that none is decoded of a request that is too large.

    Raises
    ------
    InvalidInput
        At the field of a file that is no picture or larger than `limits`.
    Overloaded
        When all together hold more pixels than a request may; names the field at which they do.
    """
    total = 0
    for field, data in files:
        total += read_pixel_count(data, limits, field)
        if total > limits.max_request_pixels:
            raise Overloaded(
                f"{field}: {total} pixels up to here; at most {limits.max_request_pixels} in one request are taken"
            )


def decode_image(data: bytes, limits: ImageLimits, field: str) -> np.ndarray:
    """The picture as uint8, (height, width) when grey, else (height, width, 3); EXIF orientation applied.

    Raises
    ------
    InvalidInput
        At `field`, when the bytes are empty, too many, no PNG, JPEG or WebP, broken, or hold too many pixels.
    """
    with _told_at(field, limits):
        picture = ImageOps.exif_transpose(_open(data, limits, field))
        mode = "L" if picture.mode in ("1", "L", "LA", "I", "I;16") else "RGB"
        if picture.mode in ("I", "I;16"):
            deep = np.asarray(picture, dtype=np.float64)
            return np.round(deep * (255.0 / max(deep.max(), 1.0))).astype(np.uint8)
        return np.asarray(picture.convert(mode))


def _open(data: bytes, limits: ImageLimits, field: str) -> Image.Image:
    if not data:
        raise InvalidInput(field, "empty; expected a PNG, JPEG or WebP file")
    if len(data) > limits.max_bytes:
        raise InvalidInput(field, f"{len(data)} bytes; at most {limits.max_bytes} are taken")
    picture = Image.open(io.BytesIO(data), formats=FORMATS)
    if picture.width * picture.height > limits.max_pixels:
        raise InvalidInput(
            field, f"{picture.width}×{picture.height} pixels; at most {limits.max_pixels} pixels are taken"
        )
    return picture


@contextmanager
def _told_at(field: str, limits: ImageLimits) -> Iterator[None]:
    """Whatever Pillow raises is the caller's fault, at `field`."""
    try:
        yield
    except InvalidInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow's own bound comes first for sizes far over ours. Its warning, below that, is an error in some processes.
        raise InvalidInput(field, f"too many pixels; at most {limits.max_pixels} pixels are taken") from error
    except UnidentifiedImageError as error:
        raise InvalidInput(field, "not a picture; expected a PNG, JPEG or WebP file") from error
    except Exception as error:
        # Pillow's decoders raise SyntaxError, struct.error, EOFError and more on broken files; all mean the same to a caller.
        raise InvalidInput(field, "broken or truncated picture") from error


@dataclass(frozen=True)
class Preprocessor:
    """Resize, rescale, normalise: (value · rescale_factor − mean) / std, per channel.

    The keys are those of Hugging Face image processors; a step we do not take is refused when the bundle is loaded, never
    skipped.
    """

    height_px: int
    width_px: int
    channels: int
    rescale_factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int

    @classmethod
    def from_config(cls, config: Mapping[str, object], channels: int) -> Preprocessor:
        """Read `preprocessor_config.json`.

        A key that is absent takes the default of the image processor that the file names; a file that names none is ours:
        bilinear, 1/255, not normalised.

        Raises
        ------
        Unsupported
            When it asks for a step or a size rule that is not built.
        InvalidInput
            When a value is none that its key may have.
        """
        try:
            steps = complete_steps(config)
            height_px, width_px = read_size(steps)
            mean, std = (0.0,) * channels, (1.0,) * channels
            if steps["do_normalize"]:
                mean = _per_channel(steps, "image_mean", channels)
                std = _per_channel(steps, "image_std", channels)
            factor = float(steps["rescale_factor"]) if steps["do_rescale"] else 1.0
            resample = int(Image.Resampling(steps["resample"]))
        except (TypeError, ValueError) as error:
            raise InvalidInput(FILE, f"a value is none that its key may have: {error}") from error
        if min(height_px, width_px) < 1 or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std, factor))):
            raise InvalidInput(FILE, "expected a size of at least 1×1, image_std above 0 and finite numbers")
        return cls(height_px, width_px, channels, factor, mean, std, resample)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(channels, height, width) float32 of a uint8 picture."""
        image = Image.fromarray(picture).convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width_px, self.height_px):
            image = image.resize((self.width_px, self.height_px), Image.Resampling(self.resample))
        pixels = np.asarray(image, dtype=np.float32).reshape(self.height_px, self.width_px, self.channels)
        values = (pixels * self.rescale_factor - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)


def _per_channel(steps: Mapping[str, object], key: str, channels: int) -> tuple[float, ...]:
    """The values of `key`, of which Hugging Face takes one for all channels too."""
    value = steps.get(key)
    if value is None:
        raise InvalidInput(FILE, f"{key}: missing; expected {channels} values, because do_normalize is set")
    values = (float(value),) * channels if isinstance(value, (int, float)) else tuple(float(each) for each in value)
    if len(values) != channels:
        raise InvalidInput(FILE, f"{key}: expected {channels} values, got {len(values)}")
    return values

"""From an encoded picture to the tensor a model takes, as the bundle's `preprocessor_config.json` says."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from plumbline.pictures import PictureError, PictureLimits, decode_picture, read_picture_size
from services.common.runtime.errors import InvalidInput, Overloaded
from services.common.vision.processor_steps import FILE, complete_steps, read_size

_CHANNELS = (1, 3)
_MOST_EDGE_PX = 4096
"""A picture of this size takes 200 MB for a net with three channels, and baselines as much each."""


@dataclass(frozen=True)
class ImageLimits(PictureLimits):
    """What a service takes: bytes of an encoded file, pixels of a picture, pixels of all pictures of a request."""

    max_request_pixels: int = 100_000_000


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
        with _told_at(field):
            height_px, width_px = read_picture_size(data, limits)
        total += height_px * width_px
        if total > limits.max_request_pixels:
            raise Overloaded(
                f"{field}: {total} pixels up to here; at most {limits.max_request_pixels} in one request are taken"
            )


def decode_image(data: bytes, limits: ImageLimits, field: str, frame: int = 0) -> np.ndarray:
    """The picture as `decode_picture` gives it, uint8, (height, width) when grey, else (height, width, 3), upright.

    Raises
    ------
    InvalidInput
        At `field`, when the bytes are no picture that is taken, or hold too many pixels or no such frame.
    """
    with _told_at(field):
        return decode_picture(data, limits, frame)


@contextmanager
def _told_at(field: str) -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise InvalidInput(field, str(error)) from error


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
        if channels not in _CHANNELS:
            raise InvalidInput("config.json", f"num_channels is {channels}; expected 1 (grey) or 3 (RGB)")
        try:
            steps = complete_steps(config)
            height_px, width_px = read_size(steps)
            mean, std = (0.0,) * channels, (1.0,) * channels
            if steps["do_normalize"]:
                mean = _per_channel(steps, "image_mean", channels)
                std = _per_channel(steps, "image_std", channels)
            factor = float(steps["rescale_factor"]) if steps["do_rescale"] else 1.0
            resample = int(Image.Resampling(steps["resample"]))
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidInput(FILE, f"a value is none that its key may have: {error}") from error
        if min(height_px, width_px) < 1 or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std, factor))):
            raise InvalidInput(FILE, "expected a size of at least 1×1, image_std above 0 and finite numbers")
        if max(height_px, width_px) > _MOST_EDGE_PX:
            raise InvalidInput(FILE, f"size: {height_px}×{width_px}; at most {_MOST_EDGE_PX} an edge are taken")
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

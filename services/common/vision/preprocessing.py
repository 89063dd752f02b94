"""From an encoded picture to the tensor a model takes, as the bundle's `preprocessor_config.json` says.

Sizes are checked in the file's header before a pixel is decoded.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from services.common.runtime.errors import InvalidInput, Unsupported

FORMATS = ("PNG", "JPEG", "WEBP")
_UNSUPPORTED_STEPS = ("do_center_crop", "do_pad", "do_reduce_labels")


@dataclass(frozen=True)
class ImageLimits:
    """What a service takes: bytes of the encoded file, pixels of the picture."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 32_000_000


def decode_image(data: bytes, limits: ImageLimits, field: str) -> np.ndarray:
    """The picture as uint8, (height, width) when grey, else (height, width, 3); EXIF orientation applied.

    Raises
    ------
    InvalidInput
        At `field`, when the bytes are empty, too many, no PNG, JPEG or WebP, broken, or hold too many pixels.
    """
    if not data:
        raise InvalidInput(field, "empty; expected a PNG, JPEG or WebP file")
    if len(data) > limits.max_bytes:
        raise InvalidInput(field, f"{len(data)} bytes; at most {limits.max_bytes} are taken")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        if picture.width * picture.height > limits.max_pixels:
            raise InvalidInput(
                field, f"{picture.width}×{picture.height} pixels; at most {limits.max_pixels} pixels are taken"
            )
        picture = ImageOps.exif_transpose(picture)
        mode = "L" if picture.mode in ("1", "L", "LA", "I", "I;16") else "RGB"
        if picture.mode in ("I", "I;16"):
            deep = np.asarray(picture, dtype=np.float64)
            return np.round(deep * (255.0 / max(deep.max(), 1.0))).astype(np.uint8)
        return np.asarray(picture.convert(mode))
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

        Raises
        ------
        Unsupported
            When it asks for a step or a size rule that is not built.
        """
        for step in _UNSUPPORTED_STEPS:
            if config.get(step):
                raise Unsupported(f"preprocessor_config.json: {step} is not supported; resize instead")
        size = config.get("size")
        if not isinstance(size, Mapping) or "height" not in size or "width" not in size:
            raise Unsupported("preprocessor_config.json: size must give height and width")
        normalise = bool(config.get("do_normalize", False))
        mean = tuple(config.get("image_mean", ())) if normalise else (0.0,) * channels
        std = tuple(config.get("image_std", ())) if normalise else (1.0,) * channels
        if len(mean) != channels or len(std) != channels:
            raise Unsupported(f"preprocessor_config.json: image_mean and image_std need {channels} values")
        factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
        return cls(int(size["height"]), int(size["width"]), channels, factor, mean, std, int(config.get("resample", 2)))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """(channels, height, width) float32 of a uint8 picture."""
        image = Image.fromarray(picture).convert("L" if self.channels == 1 else "RGB")
        if image.size != (self.width_px, self.height_px):
            image = image.resize((self.width_px, self.height_px), Image.Resampling(self.resample))
        pixels = np.asarray(image, dtype=np.float32).reshape(self.height_px, self.width_px, self.channels)
        values = (pixels * self.rescale_factor - np.float32(self.mean)) / np.float32(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1), dtype=np.float32)

    @property
    def input_scale(self) -> float:
        """How much one grey level of 255 moves the input, times 255: the unit of gradients is 1 over this."""
        return 255 * self.rescale_factor / math.prod(self.std) ** (1 / len(self.std))

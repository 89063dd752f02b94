"""Vary a drawn record each time it is used: other light, other colours, another side up."""

from dataclasses import replace

import numpy as np
from PIL import Image

from services.lvlm.nano.draw import View
from services.lvlm.nano.worlds import World

_CAST_RATIO = 0.08  # of grey pictures: seen through a strong colour cast
_GREY_GAMMA_RATIO = 0.4  # of grey pictures: most digits come as full white on full black
_HUE_RATIO = 0.4  # of coloured pictures
_HUE_STEPS = 256


def vary(rng: np.random.Generator, view: View, world: World) -> View:
    """The same scene with other values, and turned or mirrored where its world has no up and down."""
    varied = replace(view, picture=_relight(rng, view.picture))
    if not world.has_up:
        varied = _turn(varied, int(rng.integers(4)), bool(rng.random() < 0.5))
    return varied


def _relight(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Shapes: picture (height, width) or (height, width, 3) uint8; a grey one may come back coloured."""
    if picture.ndim == 2:
        gamma = np.exp(rng.normal(0, 0.3)) if rng.random() < _GREY_GAMMA_RATIO else 1.0
        if rng.random() < _CAST_RATIO:
            return _expose(picture[:, :, None], rng.uniform(0.4, 1.0, 3), gamma)
        return _expose(picture[:, :, None], np.ones(1), gamma)[:, :, 0]
    gains = rng.uniform(0.85, 1.15) * rng.uniform(0.92, 1.08, 3)
    exposed = _expose(picture, gains, np.exp(rng.normal(0, 0.2)))
    return _shift_hue(rng, exposed) if rng.random() < _HUE_RATIO else exposed


def _expose(picture: np.ndarray, gains: np.ndarray, gamma: float) -> np.ndarray:
    """Shapes: picture (height, width, 1 or channel), gains (channel,)."""
    table = (np.arange(256) / 255) ** gamma * 255
    tables = (table[:, None] * gains).clip(0, 255).astype(np.uint8)  # (value, channel)
    return np.stack([tables[picture[:, :, min(c, picture.shape[2] - 1)], c] for c in range(len(gains))], axis=2)


def _shift_hue(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Turn the colour circle, mostly a little, and change how strong the colours are."""
    shift = rng.integers(_HUE_STEPS) if rng.random() < 0.4 else round(rng.normal(0, 10)) % _HUE_STEPS
    hsv = np.array(Image.fromarray(picture).convert("HSV"))
    hsv[..., 0] += np.uint8(shift)
    hsv[..., 1] = (hsv[..., 1] * rng.uniform(0.6, 1.4)).clip(0, 255).astype(np.uint8)
    return np.array(Image.fromarray(hsv, "HSV").convert("RGB"))


def _turn(view: View, quarter: int, is_mirrored: bool) -> View:
    planes = [np.rot90(plane, quarter) for plane in (view.picture, view.cover, view.numbers)]
    picture, cover, numbers = (plane[:, ::-1] if is_mirrored else plane for plane in planes)
    return replace(view, picture=picture, cover=cover, numbers=numbers)

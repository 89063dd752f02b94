"""Pictures from outside `nano`'s world: every pixel of them is unknown."""

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.scene import Scene

SIDE_PX = 112


def draw_outside(rng: np.random.Generator) -> Scene:
    """Colour noise, clouds, landscapes of bands, heaps of shapes, and two kinds with the statistics of natural pictures: dead leaves and
    noise with a falling spectrum. No digit, no skin, no film."""
    kinds = (_noise, _clouds, _bands, _heap, _dead_leaves, _dead_leaves, _falling_spectrum)
    kind = kinds[rng.integers(len(kinds))]
    picture = kind(rng).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        picture = picture.mean(axis=2, keepdims=True).repeat(3, axis=2).astype(np.uint8)
    return Scene(picture, np.full((SIDE_PX, SIDE_PX), things.UNKNOWN, dtype=np.uint8))


def _noise(rng: np.random.Generator) -> np.ndarray:
    block_px = int(rng.choice((1, 2, 4, 8)))
    coarse = rng.uniform(0, 255, (SIDE_PX // block_px, SIDE_PX // block_px, 3))
    return coarse.repeat(block_px, axis=0).repeat(block_px, axis=1)


def _clouds(rng: np.random.Generator) -> np.ndarray:
    """Noise on several scales, a palette of two colours and their mixture."""
    scales = rng.choice((1.0, 2.0, 4.0, 8.0, 16.0), int(rng.integers(1, 4)), replace=False)
    field = sum(scale * ndimage.gaussian_filter(rng.normal(size=(SIDE_PX, SIDE_PX)), scale) for scale in scales)
    field = (field - field.min()) / np.ptp(field)
    first, second = rng.uniform(0, 255, (2, 3))
    return first + (second - first) * field[:, :, None] ** rng.uniform(0.5, 2.0)


def _bands(rng: np.random.Generator) -> np.ndarray:
    """Wavy layers, as skies, fields and streets lie above each other."""
    edges = np.sort(rng.uniform(0, SIDE_PX, int(rng.integers(2, 7))))
    waves = ndimage.gaussian_filter1d(rng.normal(size=SIDE_PX), rng.uniform(1, 12)) * rng.uniform(0, 60)
    layer = (np.arange(SIDE_PX)[:, None, None] + waves[None, :, None] > edges).sum(axis=2)
    colours = rng.uniform(0, 255, (len(edges) + 1, 3))
    texture = ndimage.gaussian_filter(rng.normal(size=(SIDE_PX, SIDE_PX)), rng.uniform(0, 2)) * rng.uniform(0, 60)
    picture = colours[layer] + texture[:, :, None]
    return picture.transpose(1, 0, 2) if rng.random() < 0.3 else picture


def _heap(rng: np.random.Generator) -> np.ndarray:
    """Many overlapping coloured shapes over a ground of another kind."""
    ground = (_clouds, _bands)[rng.integers(2)](rng).clip(0, 255).astype(np.uint8)
    canvas = Image.fromarray(ground)
    pen = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(8, 40))):
        x, y = rng.uniform(-10, SIDE_PX, 2)
        width, height = rng.uniform(4, 50, 2)
        fill = tuple(int(value) for value in rng.uniform(0, 255, 3))
        shape = rng.integers(3)
        if shape == 0:
            pen.rectangle((x, y, x + width, y + height), fill=fill)
        elif shape == 1:
            pen.ellipse((x, y, x + width, y + height), fill=fill)
        else:
            pen.polygon((rng.uniform(-20, 40, (3, 2)) + np.array([x, y])).ravel().tolist(), fill=fill)
    blurred = ndimage.gaussian_filter(np.asarray(canvas, dtype=np.float32), (*(rng.uniform(0, 1.5),) * 2, 0))
    return blurred + rng.normal(0, rng.uniform(0, 12), blurred.shape)


def _dead_leaves(rng: np.random.Generator) -> np.ndarray:
    """Opaque leaves of all sizes over each other, each with light and grain of its own (Lee, Mumford and Huang 2001)."""
    picture = _falling_spectrum(rng)
    rows, columns = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
    palette = rng.uniform(0, 255, (int(rng.integers(2, 8)), 3))
    smallest_px = rng.uniform(2, 8)
    exponent = rng.uniform(1.0, 2.5)
    for _ in range(int(rng.integers(20, 140))):
        radius = min(0.6 * SIDE_PX, smallest_px * rng.uniform(0.02, 1) ** (-1 / exponent))
        centre, turn, squash = rng.uniform(0, SIDE_PX, 2), rng.uniform(0, np.pi), rng.uniform(0.2, 1)
        down, right = rows - centre[0], columns - centre[1]
        along = (down * np.cos(turn) + right * np.sin(turn)) / radius
        across = (right * np.cos(turn) - down * np.sin(turn)) / (radius * squash)
        corners = rng.choice((1.0, 2.0, 2.0, 8.0))  # of the superellipse: a diamond, a leaf, a tile
        leaf = np.abs(along) ** corners + np.abs(across) ** corners < 1
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 25, 3)
        light = 1 + rng.uniform(0, 0.5) * along + rng.uniform(0, 0.15) * rng.normal(size=leaf.shape)
        picture[leaf] = (colour * light[..., None])[leaf]
    return ndimage.gaussian_filter(picture, (*(rng.choice((0.0, 0.5, 1.0)),) * 2, 0))


def _falling_spectrum(rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency as in natural pictures (Field 1987), its colours bound together more or less."""
    frequency = np.hypot(np.fft.fftfreq(SIDE_PX)[:, None], np.fft.rfftfreq(SIDE_PX)[None, :])
    spectrum = np.maximum(frequency, 1 / SIDE_PX) ** -rng.uniform(0.7, 1.7)
    planes = [np.fft.irfft2(np.fft.rfft2(rng.normal(size=(SIDE_PX, SIDE_PX))) * spectrum) for _ in range(3)]
    fields = np.stack([plane / plane.std() for plane in planes], axis=2)  # (side, side, 3)
    binding = rng.uniform(0.3, 0.98)
    mixed = binding * fields[..., :1] + np.sqrt(1 - binding**2) * fields
    return rng.uniform(60, 190, 3) + rng.uniform(25, 75) * mixed

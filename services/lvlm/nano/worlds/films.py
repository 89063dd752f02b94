"""Drawn chest films, frontal, as a radiologist hangs them: the heart bulges to the image's right.

Training and held-out scenes differ in body proportions and grey levels, and in the marks (`film_marks`): fonts,
letters, letter sizes, tags, shapes of leads. A real film may stand in for the drawn one (`film_photographs`); marks
are drawn on it all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.film_marks import MARK_STYLES, paste_marks
from services.lvlm.nano.worlds.scene import Scene

if TYPE_CHECKING:  # film_photographs fits the thorax defined here to real films
    from services.lvlm.nano.worlds.film_photographs import FilmPhotographs

SIDE_PX = 112
PHOTOGRAPH_RATIO = 0.45
NO_LUNG_RATIO = 0.04


@dataclass(frozen=True)
class Thorax:
    """Outline of a chest. Lengths are in half sides of the picture: x and y run from -1 to 1, y downwards."""

    width: float  # from the midline to the outer edge of a lung, at its base
    apex: float
    base: float
    bell: float  # exponent of the outer edge: the larger, the narrower the top
    dome: float  # how much lower than its top the diaphragm lies at the chest wall
    mediastinum: float
    heart: float  # how far the heart reaches into the image's right lung
    lift: float  # how much higher the image's left diaphragm stands
    wall: float
    tilt: float  # radians
    shift: float

    def grid(self, side_px: int) -> tuple[np.ndarray, np.ndarray]:
        """The body's own coordinates of every pixel. Shapes: two of (side_px, side_px), float32."""
        axis = (np.arange(side_px, dtype=np.float32) + 0.5) * (2 / side_px) - 1
        cos, sin = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        across, down = axis[None, :] - np.float32(self.shift), axis[:, None]
        return cos * across + sin * down, cos * down - sin * across

    def depth_of(self, y: np.ndarray) -> np.ndarray:
        """0 at the apex, 1 at the base, as float32."""
        return np.clip((y - self.apex) / (self.base - self.apex), 1e-3, 1.4)

    def outer(self, depth: np.ndarray) -> np.ndarray:
        """Distance of the lungs' outer edge from the midline."""
        return self.width * np.minimum(depth, 1) ** self.bell * (1 - 0.06 * np.maximum(depth - 0.9, 0))

    def floor(self, x: np.ndarray) -> np.ndarray:
        """The diaphragm's y: one dome a side."""
        top = self.base - np.where(x < 0, self.lift, 0)
        return top + self.dome * ((np.abs(x) - 0.45 * self.width) / (0.55 * self.width)) ** 2

    def lung_margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance to the nearest edge of a lung, positive inside."""
        depth, reach = self.depth_of(y), np.abs(x)
        hilum = 0.3 * self.mediastinum * np.exp(-(((depth - 0.5) / 0.22) ** 2))
        heart = self.heart * np.exp(-((np.minimum(depth - 0.85, 0) / 0.3) ** 2))
        inner = self.mediastinum + np.where(x > 0, heart, hilum + 0.12 * heart)
        return np.minimum(np.minimum(self.outer(depth) - reach, reach - inner), self.floor(x) - y)

    def body_margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Distance to the skin, positive inside: flanks, shoulders that widen upwards, neck."""
        shoulder = 0.9 * np.exp(-(((y - self.apex - 0.12) / 0.3) ** 2))
        side = self.width * (1 + 0.03 * y) + self.wall + shoulder - np.abs(x)
        slope = y - (self.apex - 0.05) + 0.25 * np.exp(-((x / 0.35) ** 2)) - 0.1 * np.abs(x)
        neck = 0.38 * self.width - np.abs(x)
        return np.minimum(side, np.maximum(slope, neck))


@dataclass(frozen=True)
class Population:
    """What a split may draw: ranges of proportions and greys."""

    width: tuple[float, float]
    heart: tuple[float, float]
    bell: tuple[float, float]
    dome: tuple[float, float]
    gamma: tuple[float, float]
    white: tuple[float, float]


POPULATIONS = {
    "train": Population((0.64, 0.86), (0.1, 0.3), (0.27, 0.42), (0.12, 0.3), (0.75, 1.35), (190, 250)),
    "held_out": Population((0.54, 0.68), (0.2, 0.38), (0.42, 0.54), (0.22, 0.38), (0.6, 0.85), (165, 205)),
}


def draw_film(rng: np.random.Generator, split: str, photographs: FilmPhotographs | None = None) -> Scene:
    """Draw one scene of the split "train" or "held_out", on a real film where there are some, most of the time."""
    if photographs is not None and rng.random() < PHOTOGRAPH_RATIO:
        film, cover = photographs.draw(rng)
    else:
        film, cover = _draw_patient(rng, POPULATIONS[split])
    film = film.astype(np.float32)
    paste_marks(rng, film, cover, MARK_STYLES[split])
    return Scene(np.clip(film, 0, 255).astype(np.uint8), cover)


def draw_thorax(rng: np.random.Generator, population: Population) -> Thorax:
    """A body at random, a little shifted and tilted."""
    apex = rng.uniform(-0.9, -0.6)
    return Thorax(
        width=rng.uniform(*population.width),
        apex=apex,
        base=apex + rng.uniform(0.9, 1.35),
        bell=rng.uniform(*population.bell),
        dome=rng.uniform(*population.dome),
        mediastinum=rng.uniform(0.1, 0.19),
        heart=rng.uniform(*population.heart),
        lift=rng.uniform(-0.02, 0.1),
        wall=rng.uniform(0.1, 0.22),
        tilt=rng.normal(0, 0.035),
        shift=rng.normal(0, 0.06),
    )


def _draw_patient(rng: np.random.Generator, population: Population) -> tuple[np.ndarray, np.ndarray]:
    """A film without marks. Shapes: (SIDE_PX, SIDE_PX) float32 and uint8."""
    thorax = draw_thorax(rng, population)
    x, y = thorax.grid(SIDE_PX)
    lung, body = thorax.lung_margin(x, y), thorax.body_margin(x, y)
    if rng.random() < NO_LUNG_RATIO:
        lung = np.full_like(lung, -1)  # a belly, or a chest white all over
    cover = np.where(body > 0, things.BODY, things.BACKGROUND).astype(np.uint8)
    cover[(lung > 0) & (body > 0)] = things.LUNG
    density = _soft_tissue(rng, thorax, x, y, body) + _bones(rng, thorax, x, y)
    air = _edge(lung, 0.025) * rng.uniform(0.28, 0.5)
    density -= air * (1 - _opacities(rng, lung)) * (1 + _vessels(rng, x))
    density *= _edge(body, 0.02)
    film = _expose(rng, density, population)
    _collimate(rng, film, cover)
    return film, cover


def _edge(margin: np.ndarray, softness: float) -> np.ndarray:
    """0 outside, 1 inside, with a soft step between."""
    return 0.5 + 0.5 * np.tanh(margin / softness)


def _soft_tissue(
    rng: np.random.Generator, thorax: Thorax, x: np.ndarray, y: np.ndarray, body: np.ndarray
) -> np.ndarray:
    """What flesh, heart and belly add to the density: the thicker, the brighter."""
    thickness = np.sqrt(np.clip(body / 0.35, 0, 1))
    belly = _edge(y - thorax.floor(x), 0.06)
    heart = np.exp(-(((x - 0.6 * thorax.heart) / (0.1 + thorax.heart)) ** 2) - ((y - thorax.base + 0.15) / 0.4) ** 2)
    density = 0.28 + 0.32 * thickness + rng.uniform(0.05, 0.2) * belly + rng.uniform(0.05, 0.16) * heart
    if rng.random() < 0.3:  # gas in the stomach, under the image's right dome
        radius = rng.uniform(0.07, 0.17)
        centre_x, centre_y = rng.uniform(0.2, 0.5), thorax.base + radius + rng.uniform(0.08, 0.2)
        distance = np.hypot((x - centre_x) / 1.3, y - centre_y)
        density -= rng.uniform(0.1, 0.25) * _edge(radius - distance, 0.03)
    return density


def _bones(rng: np.random.Generator, thorax: Thorax, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spine, ribs, clavicles, upper arms, and the jaw where the head hangs into the film."""
    return _spine(rng, x, y) + _ribs(rng, thorax, x, y) + _shoulder_girdle(rng, thorax, x, y)


def _spine(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    column = np.exp(-((x / rng.uniform(0.08, 0.12)) ** 4))
    discs = 1 + 0.25 * np.sin(2 * np.pi * y / rng.uniform(0.11, 0.16))
    return rng.uniform(0.07, 0.18) * column * discs


def _ribs(rng: np.random.Generator, thorax: Thorax, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Ribs behind fall outwards, ribs in front rise outwards and are fainter; both brighten at the chest wall."""
    ratio = np.abs(x) / (thorax.outer(thorax.depth_of(y)) + 0.04)
    pitch = (thorax.base - thorax.apex) / rng.uniform(6.5, 8.5)
    sag = rng.uniform(0.26, 0.46)
    behind = _bars((y + 0.1 * ratio - sag * ratio**3) / pitch, 0.5)
    front = _bars((y + rng.uniform(0.25, 0.4) * (ratio - 1) ** 2 * np.sign(ratio - 1)) / pitch + rng.random(), 0.35)
    strength = rng.uniform(0.07, 0.17)
    inside = _edge(1.04 - ratio, 0.03) * _edge(ratio - 0.12, 0.05) * (0.2 + 0.8 * _edge(thorax.floor(x) - y, 0.06))
    wall = np.exp(-(((ratio - 0.98) / 0.05) ** 2))
    return strength * inside * (behind * (0.7 + 0.9 * wall) + 0.35 * front * _edge(ratio - 0.45, 0.1))


def _bars(phase: np.ndarray, duty_ratio: float) -> np.ndarray:
    """Periodic bars with period 1 of phase and soft edges, in [0, 1]."""
    return _edge(np.cos(2 * np.pi * phase) - np.cos(np.pi * duty_ratio), 0.35)


def _shoulder_girdle(rng: np.random.Generator, thorax: Thorax, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    reach = np.abs(x)
    height = thorax.apex + rng.uniform(0.02, 0.16)
    path = height - rng.uniform(0.1, 0.3) * (reach - 0.1) + 0.06 * np.sin(6 * reach)
    length = rng.uniform(0.55, 0.75)
    clavicle = np.exp(-(((y - path) / 0.03) ** 2)) * _edge(length - reach, 0.03) * _edge(reach - 0.1, 0.02)
    humerus = np.exp(-(((reach - 0.95) / 0.1) ** 4) - ((y - height + 0.06) / 0.16) ** 4)
    bones = rng.uniform(0.12, 0.26) * clavicle + rng.uniform(0.05, 0.2) * humerus
    if rng.random() < 0.3:
        jaw = 0.34 - np.hypot(x, 0.8 * (y - thorax.apex + rng.uniform(0.42, 0.6)))
        bones += rng.uniform(0.1, 0.35) * _edge(jaw, 0.02)
    return bones


def _opacities(rng: np.random.Generator, lung: np.ndarray) -> np.ndarray:
    """Share of the lungs' air that is lost: none, or white patches. Shapes: like lung, in [0, 1]."""
    lost = np.full_like(lung, rng.uniform(0, 0.25))
    inside = np.argwhere(lung > 0)
    if not len(inside) or rng.random() < 0.5:
        return lost
    rows, columns = (np.arange(SIDE_PX, dtype=np.float32) for _ in range(2))
    for row, column in inside[rng.integers(len(inside), size=int(rng.integers(1, 5)))]:
        radius = rng.uniform(4, 16)
        patch = np.exp(-(((rows - row) / radius) ** 2))[:, None] * np.exp(-(((columns - column) / radius) ** 2))
        lost += rng.uniform(0.3, 0.9) * patch
    return np.minimum(lost, 0.9)


def _vessels(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Mottle of the lung, coarser near the hila. Shapes: like x."""
    grain = ndimage.gaussian_filter(rng.standard_normal(x.shape, dtype=np.float32), 1.0, truncate=2)
    return rng.uniform(0.1, 0.45) * grain * np.exp(-(((np.abs(x) - 0.2) / 0.35) ** 2))


def _expose(rng: np.random.Generator, density: np.ndarray, population: Population) -> np.ndarray:
    """Grey levels of a density; some films are washed out."""
    white = rng.uniform(*population.white)
    is_washed_out = rng.random() < 0.2
    black = rng.uniform(30, 90) if is_washed_out else rng.uniform(0, 25)
    coarse = rng.normal(0, 0.05, (4, 4)).astype(np.float32)
    density = density * (1 + ndimage.zoom(coarse, SIDE_PX / 4, order=1))
    density = np.clip(density / rng.uniform(0.85, 1.05), 0, 1.1) ** rng.uniform(*population.gamma)
    film = black + (white - black) * density
    film = ndimage.gaussian_filter(film, rng.uniform(0.3, 0.7), truncate=3)
    return film + rng.uniform(0.3, 2.5) * rng.standard_normal(film.shape, dtype=np.float32)


def _collimate(rng: np.random.Generator, film: np.ndarray, cover: np.ndarray) -> None:
    """Black bars where the beam was cut off, at times with the bright line of a film's edge."""
    if rng.random() > 0.25:
        return
    turns = int(rng.integers(4))
    film, cover = np.rot90(film, turns), np.rot90(cover, turns)  # views: what is written lands in the originals
    width = int(rng.integers(2, 9))
    film[:, :width] = rng.uniform(0, 20)
    cover[:, :width] = things.BACKGROUND
    if rng.random() < 0.3:
        film[:, width - 1] = rng.uniform(150, 255)

"""Dermoscopic scenes: a lesion on skin, with or without stickers, rulers, ink and hair.

Training and held-out scenes differ in skin tones, lesion textures, and in all of `skin_marks.Marks`.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.scene import Scene
from services.lvlm.nano.worlds.skin_marks import (
    COLUMNS,
    HELD_OUT_MARKS,
    ROWS,
    SIDE_PX,
    TRAIN_MARKS,
    Marks,
    blend,
    noise,
    paint_hair,
    paint_ink,
    paint_ruler,
    paint_sticker,
    paste_sticker,
    pick,
)
from services.lvlm.nano.worlds.skin_photographs import SkinPhotographs

PHOTOGRAPH_RATIO = 0.45  # of scenes, where there are photographs
_PASTED_RATIO = 0.4  # of stickers, where there are photographs to cut them from
_MARK_COUNTS = (0.25, 0.5, 0.18, 0.07)  # chances of none, one, two and three kinds of marks
# In the order in which they lie over each other, with their chances.
_MARK_CHANCES = {things.INK: 0.2, things.HAIR: 0.22, things.STICKER: 0.33, things.RULER: 0.25}
_LESION_SHARE = 0.35  # a pixel belongs to the lesion from this share of full pigment on


@dataclass(frozen=True)
class SkinWorld:
    """What a split may draw."""

    skin_tones: tuple[tuple[int, int, int], ...]
    pigments: tuple[tuple[int, int, int], ...]
    textures: tuple[str, ...]
    marks: Marks


TRAIN = SkinWorld(
    skin_tones=(
        (222, 188, 172),
        (205, 165, 140),
        (184, 140, 110),
        (228, 168, 168),
        (212, 204, 184),
        (165, 184, 208),
        (230, 205, 200),
    ),
    pigments=(
        (112, 66, 40),
        (132, 78, 46),
        (72, 38, 24),
        (38, 26, 26),
        (182, 92, 84),
        (112, 100, 106),
        (160, 102, 62),
    ),
    textures=("network", "blotches", "plain"),
    marks=TRAIN_MARKS,
)
HELD_OUT = SkinWorld(
    skin_tones=((240, 150, 150), (148, 104, 80), (205, 192, 140), (186, 170, 205), (245, 218, 190)),
    pigments=((90, 50, 45), (135, 85, 40), (50, 45, 60), (165, 60, 75), (95, 80, 70)),
    textures=("globules", "streaks"),
    marks=HELD_OUT_MARKS,
)
WORLDS = {"train": TRAIN, "held_out": HELD_OUT}


def draw_skin(rng: np.random.Generator, split: str, photographs: SkinPhotographs | None = None) -> Scene:
    """Draw one scene of the split "train" or "held_out".

    Where photographs are given, most scenes lie on one, with its weak cover (see `SkinPhotographs`). Their colours of
    stickers are not held out: give a split only photographs that the other does not see.
    """
    world = WORLDS[split]
    if photographs is not None and rng.random() < PHOTOGRAPH_RATIO:
        base, cover = photographs.draw(rng)
        picture = base.astype(np.float32)
        has_field = False
    else:
        picture, cover = _draw_base(rng, world)
        has_field = bool(rng.random() < 0.35)
    outside = cover == things.BACKGROUND
    for mark in _draw_marks(rng):
        _paint_mark(rng, mark, picture, cover, world.marks, photographs)
    cover[outside & (cover == things.HAIR)] = things.BACKGROUND
    if has_field:
        _paint_field(rng, picture, cover)
    return Scene(picture.clip(0, 255).astype(np.uint8), cover)


def _draw_marks(rng: np.random.Generator) -> list[int]:
    count = int(rng.choice(len(_MARK_COUNTS), p=_MARK_COUNTS))
    drawn = rng.choice(list(_MARK_CHANCES), size=count, replace=False, p=list(_MARK_CHANCES.values()))
    return [mark for mark in _MARK_CHANCES if mark in drawn]


def _paint_mark(
    rng: np.random.Generator,
    mark: int,
    picture: np.ndarray,
    cover: np.ndarray,
    marks: Marks,
    photographs: SkinPhotographs | None,
) -> None:
    if mark != things.STICKER:
        _PAINTERS[mark](rng, picture, cover, marks)
        return
    cut_out = photographs.draw_sticker(rng) if photographs is not None and rng.random() < _PASTED_RATIO else None
    if cut_out is not None:
        paste_sticker(rng, picture, cover, cut_out)
        return
    for _ in range(2 if rng.random() < 0.2 else 1):
        paint_sticker(rng, picture, cover, marks)


_PAINTERS = {things.INK: paint_ink, things.HAIR: paint_hair, things.RULER: paint_ruler}


def _draw_base(rng: np.random.Generator, world: SkinWorld) -> tuple[np.ndarray, np.ndarray]:
    """Skin with its lesions. Shapes: picture (SIDE_PX, SIDE_PX, 3) float32, cover (SIDE_PX, SIDE_PX) uint8."""
    picture = _draw_ground(rng, world)
    cover = np.full((SIDE_PX, SIDE_PX), things.SKIN, dtype=np.uint8)
    if rng.random() < 0.93:
        _paint_lesions(rng, picture, cover, world)
    _paint_gel(rng, picture)
    picture += rng.normal(0, rng.uniform(0.5, 3.0), picture.shape)
    return picture, cover


def _draw_ground(rng: np.random.Generator, world: SkinWorld) -> np.ndarray:
    first, second = (np.array(pick(rng, world.skin_tones), dtype=np.float32) for _ in range(2))
    tone = first + (second - first) * rng.uniform(0, 0.3)
    picture = np.empty((SIDE_PX, SIDE_PX, 3), dtype=np.float32)
    picture[:] = tone * rng.uniform(0.85, 1.05) + rng.normal(0, 3, 3)
    # Blood shows as patches that are redder, not darker.
    flush = noise(rng, int(rng.integers(3, 7))) + 0.5 * noise(rng, int(rng.integers(10, 24)))
    picture += flush[..., None] * rng.uniform(1, 6) * np.array([0.3, -1.0, -0.8], dtype=np.float32)
    picture += (rng.uniform(1, 5) * noise(rng, 4) + rng.uniform(0.5, 4) * noise(rng, 45))[..., None]
    pores = np.clip(noise(rng, int(rng.integers(28, 50))) - 1.2, 0, 1)
    picture -= (rng.uniform(0, 22) * pores)[..., None]
    centre = rng.uniform(0.35, 0.65, 2) * SIDE_PX
    distance = np.hypot(ROWS - centre[0], COLUMNS - centre[1]) / SIDE_PX
    picture *= (1.04 - rng.uniform(0, 0.45) * distance**2)[..., None]
    return picture


def _paint_lesions(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, world: SkinWorld) -> None:
    width = SIDE_PX * (rng.uniform(0.2, 0.55) if rng.random() < 0.6 else rng.uniform(0.08, 0.65))
    centre = SIDE_PX * np.clip(rng.normal(0.5, 0.07, 2), 0.25, 0.75)
    depth = _blob(rng, centre, width / 2)
    for _ in range(int(rng.choice(3, p=(0.75, 0.15, 0.1)))):
        place = centre + rng.normal(0, 0.65 * width, 2)
        depth = np.maximum(depth, _blob(rng, place, width * rng.uniform(0.12, 0.3)))
    ragged = rng.uniform(0.0, 0.25) * noise(rng, int(rng.integers(12, 40)))
    share = np.clip((depth + ragged * np.clip(1 - depth, 0, 1)) / rng.uniform(0.15, 0.7) + 0.5, 0, 1)
    share = share * share * (3 - 2 * share)
    opacity = rng.uniform(0.55, 0.95)
    texture = _texture(rng, pick(rng, world.textures), np.clip(depth, 0, 1))
    texture = texture + rng.uniform(0.02, 0.09) * (noise(rng, 7) + noise(rng, int(rng.integers(24, 50))))
    blend(picture, share * np.clip(opacity + texture, 0.65 * opacity, 1), _pigment(rng, world, texture))
    cover[share > _LESION_SHARE] = things.LESION


def _blob(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Depth below the border of an irregular blob: 1 in its middle, 0 on its border, negative outside."""
    turn, squash = rng.uniform(0, np.pi), rng.uniform(0.6, 1.0)
    down, right = ROWS - centre[0], COLUMNS - centre[1]
    along = down * np.cos(turn) + right * np.sin(turn)
    across = (right * np.cos(turn) - down * np.sin(turn)) / squash
    angle = np.arctan2(along, across)
    border = np.ones_like(angle)
    for order in range(2, 7):
        border += rng.normal(0, 0.17 / order) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return 1 - np.hypot(along, across) / (radius * border)


def _texture(rng: np.random.Generator, name: str, depth: np.ndarray) -> np.ndarray:
    """Where a lesion is darker (positive) and paler than on average. Shapes: (SIDE_PX, SIDE_PX)."""
    strength = rng.uniform(0.08, 0.3)
    if name == "network":  # the meshes are where smooth noise crosses zero
        return strength * (0.9 - 1.8 * np.abs(noise(rng, int(rng.integers(36, 60)))))
    if name == "blotches":
        return strength * (noise(rng, int(rng.integers(5, 10))) + 0.6 * noise(rng, int(rng.integers(14, 30))))
    if name == "globules":
        return strength * (3 * np.clip(noise(rng, int(rng.integers(24, 40))) - 0.5, 0, 1) - 0.4)
    if name == "streaks":
        fine, coarse = int(rng.integers(16, 34)), int(rng.integers(6, 12))
        return strength * (noise(rng, fine, coarse) if rng.random() < 0.5 else noise(rng, coarse, fine))
    return 0.08 * noise(rng, 6) + strength * (depth - 0.5)


def _pigment(rng: np.random.Generator, world: SkinWorld, texture: np.ndarray) -> np.ndarray:
    """Colours inside a lesion: one or two pigments, and darker spots. Shapes: (SIDE_PX, SIDE_PX, 3)."""
    first, second = (np.array(pick(rng, world.pigments), dtype=np.float32) for _ in range(2))
    paint = np.empty((SIDE_PX, SIDE_PX, 3), dtype=np.float32)
    paint[:] = first + rng.normal(0, 6, 3)
    if rng.random() < 0.5:
        blend(paint, np.clip(noise(rng, int(rng.integers(4, 9))), 0, 1), second)
    if rng.random() < 0.4:
        spots = np.clip(2 * noise(rng, int(rng.integers(8, 22))) - 1.6, 0, 1)
        blend(paint, spots * rng.uniform(0.4, 0.9), paint * 0.4)
    return paint * (1 - 0.8 * texture[..., None])


def _paint_gel(rng: np.random.Generator, picture: np.ndarray) -> None:
    """Glare of the lamp and bubbles in the contact gel; they are part of the skin."""
    if rng.random() < 0.25:
        glare = np.clip(noise(rng, int(rng.integers(14, 40))) - rng.uniform(1.7, 2.3), 0, 1)
        blend(picture, glare * 0.8, np.full(3, 250.0, dtype=np.float32))
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 7))):
            centre, radius = rng.uniform(0, SIDE_PX, 2), rng.uniform(1.5, 6)
            distance = np.hypot(ROWS - centre[0], COLUMNS - centre[1])
            ring = np.clip(1 - np.abs(distance - radius), 0, 1)
            blend(picture, ring * rng.uniform(0.15, 0.45), np.full(3, 245.0, dtype=np.float32))


def _paint_field(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray) -> None:
    """The black outside of the round field of a dermatoscope, over everything."""
    centre = SIDE_PX * rng.normal(0.5, 0.03, 2)
    radii = SIDE_PX * rng.uniform(0.5, 0.64) * np.array([rng.uniform(1.0, 1.12), rng.uniform(0.88, 1.0)])
    reach = np.hypot((ROWS - centre[0]) / radii[0], (COLUMNS - centre[1]) / radii[1])
    softness = rng.choice((0.015, 0.05, 0.14))
    outside = np.clip((reach - 1) / softness + 0.5, 0, 1)
    blend(picture, outside, np.full(3, rng.uniform(2, 28), dtype=np.float32))
    cover[ndimage.binary_opening(outside > 0.7)] = things.BACKGROUND

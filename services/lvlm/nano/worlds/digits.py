"""Drawn scenes: a digit on a quiet ground, with or without decoys, and pictures from outside that world.

Training and held-out scenes differ in fonts, in the sizes, greys, places and textures of decoys, and in grounds.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.glyphs import HELD_OUT_FONTS, TRAIN_FONTS, draw_digit, fit_digit, load_font
from services.lvlm.nano.worlds.scene import Scene

SIDE_MAX_PX = 64
INK_RATIO = 0.2  # a pixel belongs to the digit from this share of full ink on


@dataclass(frozen=True)
class World:
    """What a split may draw."""

    fonts: tuple[str, ...]
    letters: str
    square_px: tuple[int, ...]
    greys: tuple[tuple[int, int], ...]
    inset_px: tuple[int, ...]  # distance of a corner mark from the edge
    is_textured: bool


TRAIN = World(TRAIN_FONTS, "ABFHKPRTXZ", (3, 4, 4, 4, 4, 5, 6), ((25, 95), (125, 256)), (0, 0, 0, 0, 1), False)
HELD_OUT = World(HELD_OUT_FONTS, "LEMNUVCD", (4, 5, 7), ((95, 125), (190, 240)), (0, 1, 2), True)
WORLDS = {"train": TRAIN, "held_out": HELD_OUT}


def draw_digits(rng: np.random.Generator, split: str) -> Scene:
    """Draw one scene of the split "train" or "held_out"."""
    world = WORLDS[split]
    side = 28 if rng.random() < 0.8 else int(rng.integers(28, SIDE_MAX_PX + 1))
    if rng.random() < 0.07:
        return _draw_outside(rng, side)
    ground, is_inverted = _draw_ground(rng, side, world)
    cover = np.zeros((side, side), dtype=np.uint8)
    if rng.random() < 0.92:
        _paste_digit(rng, ground, cover, world)
    for index in range(int(rng.choice(4, p=(0.14, 0.6, 0.21, 0.05)))):
        _paste_decoy(rng, ground, cover, world, is_first=index == 0)
    picture = np.clip(ground, 0, 255).astype(np.uint8)
    return Scene(255 - picture if is_inverted else picture, cover)


def _draw_ground(rng: np.random.Generator, side: int, world: World) -> tuple[np.ndarray, bool]:
    kind = rng.random()
    if kind < 0.72:
        ground = np.zeros((side, side))
    elif kind < 0.84:
        ground = rng.uniform(0, rng.uniform(4, 30), (side, side))
    elif kind < 0.94:
        ground = np.full((side, side), rng.uniform(5, 60))
    else:
        ramp = np.linspace(0, rng.uniform(20, 70), side)
        ground = np.tile(ramp, (side, 1)) if world.is_textured else np.tile(ramp[:, None], (1, side))
    return ground, bool(rng.random() < 0.05)


def _paste_digit(rng: np.random.Generator, ground: np.ndarray, cover: np.ndarray, world: World) -> None:
    side = ground.shape[0]
    box_px = round(side * (20 / 28 if rng.random() < 0.7 else rng.uniform(0.5, 0.9)))
    ink = fit_digit(rng, draw_digit(rng, world.fonts), box_px)
    slack = side - box_px
    top, left = (int(np.clip(slack // 2 + rng.integers(-2, 3), 0, slack)) for _ in range(2))
    window = np.s_[top : top + box_px, left : left + box_px]
    level = 255.0 if rng.random() < 0.7 else rng.uniform(120, 255)
    ground[window] = ground[window] * (1 - ink) + level * ink
    cover[window][ink > INK_RATIO] = things.DIGIT


def _paste_decoy(rng: np.random.Generator, ground: np.ndarray, cover: np.ndarray, world: World, is_first: bool) -> None:
    side = ground.shape[0]
    is_square = rng.random() < (0.6 if is_first else 0.25)
    thing = things.SQUARE if is_square else int(rng.choice(things.SHAPES))
    stamp = _stamp(rng, thing, world, side / 28)
    place = _find_place(rng, cover, stamp, world)
    if place is None:
        return
    window = np.s_[place[0] : place[0] + stamp.shape[0], place[1] : place[1] + stamp.shape[1]]
    low, high = world.greys[rng.integers(len(world.greys))]
    # A mark must differ from its ground by more than the noise of the ground does.
    grey = float(max(rng.integers(low, high), min(255.0, np.median(ground[window]) + 25)))
    level = np.full(stamp.shape, grey)
    if world.is_textured and thing == things.SQUARE and rng.random() < 0.3:
        level[::2, ::2] *= 0.85
    ground[window][stamp] = level[stamp]
    cover[window][stamp] = thing


def _find_place(rng: np.random.Generator, cover: np.ndarray, stamp: np.ndarray, world: World) -> tuple[int, int] | None:
    """A corner most of the time, else an edge, else anywhere; over a digit rarely, over another decoy never."""
    height, width = (cover.shape[axis] - stamp.shape[axis] for axis in range(2))
    for _ in range(12):
        kind = rng.random()
        inset = int(rng.choice(world.inset_px))
        top, left = (int(rng.choice((min(inset, span), max(0, span - inset)))) for span in (height, width))
        if kind > 0.9:
            top, left = int(rng.integers(height + 1)), int(rng.integers(width + 1))
        elif kind > 0.7:
            top, left = (
                (top, int(rng.integers(width + 1))) if rng.random() < 0.5 else (int(rng.integers(height + 1)), left)
            )
        under = cover[top : top + stamp.shape[0], left : left + stamp.shape[1]][stamp]
        if (under > things.DIGIT).any() or (under == things.DIGIT).mean() > 0.3:
            continue
        return top, left
    return None


def _stamp(rng: np.random.Generator, thing: int, world: World, scale: float) -> np.ndarray:
    """The mark's own pixels. Shapes: (height, width), bool."""
    if thing == things.SQUARE:
        side = max(3, round(scale * rng.choice(world.square_px)))
        return np.ones((side, side), dtype=bool)
    if thing == things.LETTER:
        return _letter(rng, world, max(8, round(scale * rng.uniform(8, 12))))
    side = round(scale * rng.uniform(5, 8.5))
    if thing == things.BAR:
        stick = np.ones((max(1, round(scale * rng.uniform(1, 2.6))), round(side * rng.uniform(1.5, 2.4))), dtype=bool)
        return stick if rng.random() < 0.5 else stick.T
    return _SHAPES[thing](rng, side)


def _circle(rng: np.random.Generator, side: int) -> np.ndarray:
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    distance = np.hypot(rows, columns)
    is_ring = side >= 7 and rng.random() < 0.2
    return (distance <= side / 2 - 0.1) & (distance >= side / 2 - 1.6 if is_ring else True)


def _triangle(rng: np.random.Generator, side: int) -> np.ndarray:
    rows, columns = np.indices((side, side))
    upright = np.abs(columns - (side - 1) / 2) <= (rows + 0.6) / 2
    return np.rot90(upright, int(rng.integers(4))).copy()


def _cross(rng: np.random.Generator, side: int) -> np.ndarray:
    side = max(5, side)
    half_width = 0.6 if side < 7 or rng.random() < 0.5 else 1.1
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    half_width += 0.5 * (1 - side % 2) if half_width < 1 else 0
    plus = (np.abs(rows) <= half_width) | (np.abs(columns) <= half_width)
    diagonal = (np.abs(rows - columns) <= half_width) | (np.abs(rows + columns) <= half_width)
    return diagonal if rng.random() < 0.4 else plus


_SHAPES = {things.CIRCLE: _circle, things.TRIANGLE: _triangle, things.CROSS: _cross}


def _letter(rng: np.random.Generator, world: World, size_px: int) -> np.ndarray:
    canvas = Image.new("L", (2 * size_px, 2 * size_px))
    letter = world.letters[rng.integers(len(world.letters))]
    font = load_font(world.fonts[rng.integers(len(world.fonts))], size_px)
    ImageDraw.Draw(canvas).text((size_px, size_px), letter, font=font, fill=255, anchor="mm")
    ink = np.asarray(canvas) > 90
    rows, columns = np.nonzero(ink)
    if rows.size < 4:
        return np.ones((5, 1), dtype=bool)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _draw_outside(rng: np.random.Generator, side: int) -> Scene:
    """Textures and clouds without a digit: every pixel is unknown."""
    kind = rng.integers(4)
    rows, columns = np.indices((side, side))
    if kind == 0:
        field = rng.random((side, side))
    elif kind == 1:
        field = ndimage.gaussian_filter(rng.normal(size=(side, side)), rng.uniform(1.0, 5.0))
    elif kind == 2:
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(3, 12)
        field = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 2 * np.pi / pitch)
        field += rng.normal(0, 0.3, field.shape)
    else:
        centres = rng.uniform(0, side, (int(rng.integers(2, 6)), 2))
        widths = rng.uniform(0.1, 0.35, len(centres)) * side
        field = sum(
            np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
            for (y, x), width in zip(centres, widths, strict=True)
        )
        field = field + rng.normal(0, 0.05, field.shape)
    field = (field - field.min()) / (np.ptp(field) + 1e-9)
    low, high = sorted(rng.uniform(0, 255, 2))
    picture = (low + field * max(60.0, high - low)).clip(0, 255).astype(np.uint8)
    return Scene(picture, np.full((side, side), things.UNKNOWN, dtype=np.uint8))

"""Marks on dermoscopic scenes: stickers, rulers, ink and hair; each is painted into a picture and entered in its cover.

Everywhere here `picture` is (SIDE_PX, SIDE_PX, 3) float32 in [0, 255] and `cover` (SIDE_PX, SIDE_PX) uint8, both
changed in place; a `share` is (SIDE_PX, SIDE_PX) float32 in [0, 1]: how much of each pixel a thing fills.
"""

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.glyphs import HELD_OUT_FONTS, TRAIN_FONTS, load_font

SIDE_PX = 112
ROWS, COLUMNS = np.indices((SIDE_PX, SIDE_PX), dtype=np.float32)
MIN_HAIR_RATIO = 0.025  # of the picture; fewer hairs than this nobody would name
_SCALE = 2  # pens draw on a canvas this much larger, so that thin lines are smooth
_TRIES = 12


@dataclass(frozen=True)
class Marks:
    """What marks a split may draw."""

    sticker_hues: tuple[tuple[float, float], ...]  # degrees
    sticker_ratios: tuple[tuple[float, float], ...]  # diameter as a share of the side
    sticker_exponents: tuple[float, ...]  # of the superellipse: 2 is round, more is squarer
    ruler_styles: tuple[str, ...]
    ruler_fonts: tuple[str, ...]
    ruler_texts: tuple[str, ...]
    ink_colours: tuple[tuple[int, int, int], ...]
    hair_colours: tuple[tuple[int, int, int], ...]


TRAIN_MARKS = Marks(
    # cyan, blue, green, orange, yellow, purple
    sticker_hues=((172, 188), (196, 214), (130, 155), (20, 34), (50, 60), (248, 268)),
    sticker_ratios=((0.18, 0.42), (0.42, 0.62)),
    sticker_exponents=(2.0,),
    ruler_styles=("one_sided", "ticks", "strip"),
    ruler_fonts=TRAIN_FONTS,
    ruler_texts=("mm", "1 mm", "5 mm", "10", "1 cm"),
    ink_colours=((92, 62, 150), (70, 80, 165), (45, 35, 75), (120, 70, 150)),
    hair_colours=((38, 26, 22), (70, 45, 32), (25, 25, 30), (228, 214, 196)),
)
HELD_OUT_MARKS = Marks(
    # red, lime, magenta, indigo
    sticker_hues=((350, 364), (80, 105), (300, 325), (224, 238)),
    sticker_ratios=((0.14, 0.18), (0.62, 0.72)),
    sticker_exponents=(2.0, 2.6, 4.0),
    ruler_styles=("two_sided", "chequered"),
    ruler_fonts=HELD_OUT_FONTS,
    ruler_texts=("2 mm", "3", "20", "0", "cm"),
    ink_colours=((35, 95, 140), (150, 50, 125), (30, 90, 85)),
    hair_colours=((95, 48, 25), (50, 50, 55), (240, 235, 230)),
)


def noise(rng: np.random.Generator, rows: int, columns: int | None = None) -> np.ndarray:
    """Smooth noise of about unit spread, with that many bumps along each side. Shapes: (SIDE_PX, SIDE_PX) float32."""
    coarse = rng.normal(size=(rows, columns or rows)).astype(np.float32)
    return np.asarray(Image.fromarray(coarse).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))


def blend(picture: np.ndarray, share: np.ndarray, colour: np.ndarray) -> None:
    """Paint a colour, (3,) or (SIDE_PX, SIDE_PX, 3), over the picture."""
    picture += share[..., None] * (colour - picture)


def pick(rng: np.random.Generator, choices: tuple) -> Any:
    return choices[rng.integers(len(choices))]


def paint_sticker(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, marks: Marks) -> None:
    """A round sticker beside the lesion, mostly cut by the edge of the picture."""
    low, high = pick(rng, marks.sticker_ratios)
    radius = rng.uniform(low, high) * SIDE_PX / 2
    # Fields of view are squashed to a square, which makes most stickers taller than wide.
    radii = radius * np.array([rng.uniform(1.0, 1.25), rng.uniform(0.8, 1.0)])
    exponent = pick(rng, marks.sticker_exponents)
    turn = rng.normal(0, 0.2)
    for _ in range(_TRIES):
        centre = _sticker_centre(rng, radii)
        reach = _reach(centre, radii, exponent, turn)
        if _is_clear_of_lesion(cover, reach < 1, 0.12) and (reach < 1).mean() > 0.012:
            break
    else:
        return
    shift = rng.uniform(-2.5, 2.5, 2)
    shadow = np.clip((1.14 - _reach(centre + shift, radii, exponent, turn)) / 0.2, 0, 1)
    blend(picture, shadow * rng.uniform(0.15, 0.45), picture * 0.45)
    share = np.clip((1 - reach) * radii.min() + 0.5, 0, 1)
    blend(picture, share, _sticker_paint(rng, reach, marks))
    cover[share > 0.5] = things.STICKER


def _sticker_centre(rng: np.random.Generator, radii: np.ndarray) -> np.ndarray:
    if radii.max() < 0.2 * SIDE_PX and rng.random() < 0.2:
        return rng.uniform(0.8 * radii, SIDE_PX - 0.8 * radii)
    centre = rng.uniform(0, SIDE_PX, 2)
    axis = int(rng.random() < 0.7)  # stickers come from the left and the right more than from above
    inset = rng.uniform(-0.4, 0.8) * radii[axis]
    centre[axis] = inset if rng.random() < 0.5 else SIDE_PX - inset
    return centre


def _reach(centre: np.ndarray, radii: np.ndarray, exponent: float, turn: float) -> np.ndarray:
    """0 in the centre of a turned superellipse, 1 on its rim. Shapes: (SIDE_PX, SIDE_PX)."""
    down, right = ROWS - centre[0], COLUMNS - centre[1]
    along = np.abs(down * np.cos(turn) + right * np.sin(turn)) / radii[0]
    across = np.abs(right * np.cos(turn) - down * np.sin(turn)) / radii[1]
    return (along**exponent + across**exponent) ** (1 / exponent)


def _sticker_paint(rng: np.random.Generator, reach: np.ndarray, marks: Marks) -> np.ndarray:
    paint = np.empty((SIDE_PX, SIDE_PX, 3), dtype=np.float32)
    paint[:] = _sticker_colour(rng, marks)
    rim = rng.uniform(0.86, 0.95)
    blend(paint, np.clip((reach - rim) / 0.06, 0, 1) * rng.uniform(0.2, 0.4), np.full(3, 245.0))
    if rng.random() < 0.45:
        inner = rng.uniform(0.35, 0.72)
        blend(paint, np.clip((inner - reach) / 0.05, 0, 1), _sticker_colour(rng, marks))
    if rng.random() < 0.2:
        blend(paint, _scribble(rng, reach) * 0.85, np.array(pick(rng, marks.ink_colours), dtype=np.float32))
    paint *= 1 + 0.05 * noise(rng, 3)[..., None]
    return paint + (rng.uniform(1, 5) * noise(rng, 64))[..., None]


def _sticker_colour(rng: np.random.Generator, marks: Marks) -> np.ndarray:
    low, high = pick(rng, marks.sticker_hues)
    rgb = colorsys.hsv_to_rgb(rng.uniform(low, high) % 360 / 360, rng.uniform(0.55, 0.98), rng.uniform(0.65, 0.98))
    return 255 * np.array(rgb, dtype=np.float32)


def _scribble(rng: np.random.Generator, reach: np.ndarray) -> np.ndarray:
    """Pen marks on a sticker; they belong to it."""
    row, column = np.argwhere(reach < 0.6)[0] if (reach < 0.6).any() else (0, 0)
    ends = np.array([row, column]) + np.cumsum(rng.normal(0, 7, (6, 2)), axis=0) + (8, 0)
    return _draw_lines([ends], rng.uniform(1.2, 2.2))


def paste_sticker(
    rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, cut_out: tuple[np.ndarray, np.ndarray]
) -> None:
    """Paste a sticker cut from a photograph: its picture (SIDE_PX, SIDE_PX, 3) and its share of each pixel."""
    paint, share = cut_out
    if not _is_clear_of_lesion(cover, share > 0.5, 0.12):
        return
    shadow = np.clip(ndimage.uniform_filter(share, 7) * 1.3, 0, 1)
    blend(picture, shadow * rng.uniform(0, 0.35), picture * 0.45)
    blend(picture, share, paint)
    cover[share > 0.5] = things.STICKER


def paint_ruler(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, marks: Marks) -> None:
    """A scale bar at any angle; its cover is the band that line, ticks and text fill."""
    style = pick(rng, marks.ruler_styles)
    length, tick_px = rng.uniform(0.32, 0.85) * SIDE_PX, rng.uniform(2.5, 6.0)
    for _ in range(_TRIES):
        turn = rng.normal(0, 0.15) if rng.random() < 0.6 else rng.uniform(-np.pi, np.pi)
        along = np.array([np.sin(turn), np.cos(turn)])
        across = np.array([along[1], -along[0]]) * rng.choice((-1, 1))
        start = _ruler_centre(rng) - along * length / 2
        band = _fill([start - along, start + along * (length + 1)], across * tick_px, style)
        if _is_clear_of_lesion(cover, band, 0.1) and band.sum() > 0.8 * length * tick_px:
            break
    else:
        return
    is_strip = style == "strip"
    ground = np.median(picture[band], axis=0)
    if is_strip:
        ground = np.full(3, rng.uniform(190, 240))
        blend(picture, band * 0.9, ground)
    is_dark = ground.mean() > 110 or rng.random() < 0.2
    tone = ground * rng.uniform(0.1, 0.45) if is_dark else np.full(3, rng.uniform(225, 255))
    strokes = _ruler_strokes(rng, style, start, along * length, across * tick_px)
    share = _draw_lines(strokes, rng.uniform(0.7, 1.3) * (1.6 if style == "chequered" else 1))
    if not is_strip and rng.random() < 0.6:
        text, text_band = _ruler_text(rng, marks, start, along * length, across * (tick_px + 3))
        share, band = np.maximum(share, text), band | text_band
    blend(picture, np.clip(share * 1.15, 0, 1), tone)
    cover[band] = things.RULER


def _ruler_centre(rng: np.random.Generator) -> np.ndarray:
    """Mostly in the lower or the upper third, as microscopes and hands put it."""
    row = rng.uniform(0.72, 0.93) if rng.random() < 0.7 else rng.uniform(0.06, 0.3)
    centre = np.array([row, rng.uniform(0.3, 0.7)]) * SIDE_PX
    return centre if rng.random() < 0.75 else centre[::-1]


def _fill(line: list[np.ndarray], across: np.ndarray, style: str) -> np.ndarray:
    """The band beside a line, one pixel wider than the ticks. Shapes: (SIDE_PX, SIDE_PX) bool."""
    margin = across / np.hypot(*across)
    near = -across - margin if style == "two_sided" else -margin
    corners = [line[0] + near, line[1] + near, line[1] + across + margin, line[0] + across + margin]
    canvas = Image.new("1", (SIDE_PX, SIDE_PX))
    ImageDraw.Draw(canvas).polygon([(float(column), float(row)) for row, column in corners], fill=1)
    return np.array(canvas)


def _ruler_strokes(
    rng: np.random.Generator, style: str, start: np.ndarray, along: np.ndarray, across: np.ndarray
) -> list[np.ndarray]:
    """The line and its ticks as pairs of ends. Shapes: list of (2, 2), row and column."""
    major = int(rng.choice((1, 2, 5)))
    count = round(float(np.hypot(*along)) / rng.uniform(3.5, 7.0))
    strokes = [np.stack([start, start + along])] if style != "ticks" else []
    if style == "chequered":
        strokes.append(strokes[0] + across)
    for index in range(count + 1):
        foot = start + along * index / count
        tick = across * (1.0 if index % major == 0 or style == "chequered" else 0.55)
        strokes.append(np.stack([foot - tick if style == "two_sided" else foot, foot + tick]))
        if style == "chequered" and index % 2 and index < count:
            strokes.append(np.stack([foot, foot + along / count]) + across / 2)
    return strokes


def _ruler_text(
    rng: np.random.Generator, marks: Marks, start: np.ndarray, along: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A number or unit at one end of the scale, turned with it: its share of each pixel and its band."""
    font = load_font(pick(rng, marks.ruler_fonts), int(rng.integers(7, 10)) * _SCALE)
    text = pick(rng, marks.ruler_texts)
    left, top, right, bottom = font.getbbox(text)
    stamp = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(stamp).text((2 - left, 2 - top), text, font=font, fill=255)
    turn = np.degrees(np.arctan2(-along[0], along[1]))
    turn = (turn + 90) % 180 - 90  # nobody prints a number upside down
    box = Image.new("L", stamp.size, 255)
    end = start + along * (0.06 if rng.random() < 0.5 else 0.94)
    place = _SCALE * (end + across * (1 + 2 / np.hypot(*across)))
    shares = []
    for layer in (stamp, box):
        turned = layer.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        canvas = Image.new("L", (_SCALE * SIDE_PX, _SCALE * SIDE_PX))
        canvas.paste(turned, (round(place[1] - turned.width / 2), round(place[0] - turned.height / 2)))
        shares.append(_shrink(canvas))
    return shares[0], shares[1] > 0.5


def paint_ink(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, marks: Marks) -> None:
    """A surgeon's pen beside the lesion: an outline around it, arcs, strokes or dots."""
    centre, radius = _lesion_circle(rng, cover)
    kind = rng.random()
    if kind < 0.4:
        span = rng.uniform(0.5, 2.0) * np.pi
        paths = [_arc(rng, centre, radius * rng.uniform(1.25, 1.6) + 3, rng.uniform(0, 2 * np.pi), span)]
    elif kind < 0.8:
        paths = [_stroke(rng, centre, radius) for _ in range(int(rng.integers(2, 6)))]
    else:
        paths = [_dot(rng, centre, radius) for _ in range(int(rng.integers(3, 7)))]
    share = _draw_lines(paths, rng.uniform(2.0, 4.0))
    share *= np.clip(0.85 + 0.3 * noise(rng, 50), 0.25, 1)  # a pen skips over the furrows of skin
    blend(picture, share * rng.uniform(0.65, 0.92), np.array(pick(rng, marks.ink_colours), dtype=np.float32))
    cover[ndimage.binary_dilation(share > 0.3)] = things.INK


def _lesion_circle(rng: np.random.Generator, cover: np.ndarray) -> tuple[np.ndarray, float]:
    places = np.argwhere(cover == things.LESION)
    if not len(places):
        return rng.uniform(0.35, 0.65, 2) * SIDE_PX, rng.uniform(8, 25)
    return places.mean(axis=0), min(0.4 * SIDE_PX, float(places.std(axis=0).mean()) * 2)


def _arc(rng: np.random.Generator, centre: np.ndarray, radius: float, start: float, span: float) -> np.ndarray:
    angles = np.linspace(start, start + span, 24)
    wobble = radius * (1 + 0.08 * np.sin(angles * 3 + rng.uniform(0, 6)) + rng.normal(0, 0.015, angles.size))
    return centre + wobble[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)


def _stroke(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi)
    start = centre + (radius * rng.uniform(1.2, 1.6) + 3) * np.array([np.sin(angle), np.cos(angle)])
    heading = angle + rng.normal(0, 0.5) if rng.random() < 0.5 else rng.uniform(0, 2 * np.pi)
    steps = rng.uniform(8, 22) / 5 * np.array([np.sin(heading), np.cos(heading)]) + rng.normal(0, 0.7, (5, 2))
    return np.vstack([start, start + np.cumsum(steps, axis=0)])


def _dot(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    angle, distance = rng.uniform(0, 2 * np.pi), radius * rng.uniform(1.2, 1.7) + 4
    place = centre + distance * np.array([np.sin(angle), np.cos(angle)])
    return place + rng.normal(0, 1.2, (4, 2))


def paint_hair(rng: np.random.Generator, picture: np.ndarray, cover: np.ndarray, marks: Marks) -> None:
    """Thin bent hairs over skin and lesion; so few that nobody would name them are painted but not covered."""
    heading, spread = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.2)
    paths = [_hair(rng, heading + rng.normal(0, spread)) for _ in range(int(rng.integers(3, 26)))]
    split, width_px = len(paths) // 2, rng.uniform(0.5, 1.1)
    share = np.maximum(_draw_lines(paths[:split], width_px), 0.8 * _draw_lines(paths[split:], 0.5))
    colour = np.array(pick(rng, marks.hair_colours), dtype=np.float32)
    if abs(colour.mean() - np.median(picture)) < 45:  # pale hair can't be seen on pale skin
        colour = np.array(marks.hair_colours[0], dtype=np.float32)
    blend(picture, np.clip(share * rng.uniform(0.8, 1.3), 0, 1), colour)
    is_hair = share > 0.15
    if is_hair.mean() > MIN_HAIR_RATIO:
        cover[ndimage.binary_dilation(is_hair)] = things.HAIR


def _hair(rng: np.random.Generator, heading: float) -> np.ndarray:
    length, steps = rng.uniform(0.2, 0.9) * SIDE_PX, 14
    headings = heading + np.linspace(0, rng.normal(0, 1.0), steps) + np.cumsum(rng.normal(0, 0.06, steps))
    moves = length / steps * np.stack([np.sin(headings), np.cos(headings)], axis=1)
    path = np.cumsum(moves, axis=0)
    return path - path.mean(axis=0) + rng.uniform(0, SIDE_PX, 2)


def _draw_lines(paths: list[np.ndarray], width_px: float) -> np.ndarray:
    """Draw paths of (points, 2), row and column, with a pen. Returns their share of each pixel."""
    canvas = Image.new("L", (_SCALE * SIDE_PX, _SCALE * SIDE_PX))
    pen = ImageDraw.Draw(canvas)
    for path in paths:
        points = [(float(column), float(row)) for row, column in path * _SCALE]
        pen.line(points, fill=255, width=max(1, round(width_px * _SCALE)), joint="curve")
    return _shrink(canvas)


def _shrink(canvas: Image.Image) -> np.ndarray:
    small = canvas.resize((SIDE_PX, SIDE_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32) / 255


def _is_clear_of_lesion(cover: np.ndarray, area: np.ndarray, allowed_ratio: float) -> bool:
    """Whether the area hides at most that share of the lesion, and covers no other mark by much."""
    is_lesion = cover == things.LESION
    is_marked = np.isin(cover, (things.STICKER, things.RULER))
    hidden = (area & is_lesion).sum()
    return hidden <= allowed_ratio * is_lesion.sum() and (area & is_marked).sum() <= 0.1 * max(1, area.sum())

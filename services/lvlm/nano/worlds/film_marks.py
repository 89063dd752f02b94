"""What may lie on a chest film beside the patient: letter markers, time stamps, leads with their electrodes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.glyphs import HELD_OUT_FONTS, TRAIN_FONTS, load_font

SUPERSAMPLING = 3
GROUND_MAX = 160  # a white mark on brighter ground could not be read


@dataclass(frozen=True)
class MarkStyle:
    """What a split may paste."""

    fonts: tuple[str, ...]
    letters: tuple[str, ...]
    letter_px: tuple[int, ...]
    tags: tuple[str, ...]  # "box": dark letter on a white box; "circle": on a white disc; "frame": white in a frame
    greys: tuple[int, int]
    clocks: tuple[str, ...]  # formats; every # becomes a digit
    electrodes: tuple[str, ...]


MARK_STYLES = {
    "train": MarkStyle(
        tuple(font for font in TRAIN_FONTS if "DejaVuSans" in font or font.endswith(("Regular.ttf", "Bold.ttf"))),
        ("R", "R", "L", "L", "A", "P", "AP"),
        (5, 6, 7, 8, 10, 11, 13),
        ("box", "circle"),
        (225, 256),
        ("1#:4#", "0#.05.201#", "2#:1#", "1#.11.200#"),
        ("disc", "ring", "none"),
    ),
    "held_out": MarkStyle(
        tuple(font for font in HELD_OUT_FONTS if "Lato" in font and "Light" not in font),
        ("PA", "D", "S", "E", "M"),
        (9, 12, 14),
        ("frame",),
        (195, 225),
        ("201#-08-1#", "0#:3#:5#", "2#/02/1#"),
        ("pad", "target"),
    ),
}


def paste_marks(rng: np.random.Generator, film: np.ndarray, cover: np.ndarray, style: MarkStyle) -> None:
    """Paste none to three marks in place. Shapes: film (side, side) float32, cover (side, side) uint8."""
    for _ in range(int(rng.choice(4, p=(0.25, 0.52, 0.17, 0.06)))):
        paste = _PASTERS[rng.choice(len(_PASTERS), p=(0.5, 0.2, 0.3))]
        paste(rng, film, cover, style)


def _paste_letter(rng: np.random.Generator, film: np.ndarray, cover: np.ndarray, style: MarkStyle) -> None:
    ink = write_text(_pick(rng, style.letters), _pick(rng, style.fonts), int(rng.choice(style.letter_px)))
    paint, light = _in_tag(ink, _pick(rng, style.tags)) if rng.random() < 0.2 else (ink, np.ones_like(ink))
    paint, light = np.pad(paint, 1), np.pad(light, 1)
    window = _find_window(rng, film, cover, paint.shape)
    if window is None:
        return
    film[window] += paint * (light * rng.integers(*style.greys) - film[window])
    cover[window][ndimage.binary_dilation(paint > 0.35, np.ones((3, 3)))] = things.LETTER


def _paste_time_stamp(rng: np.random.Generator, film: np.ndarray, cover: np.ndarray, style: MarkStyle) -> None:
    text = "".join(str(rng.integers(10)) if sign == "#" else sign for sign in _pick(rng, style.clocks))
    ink = write_text(text, _pick(rng, style.fonts), int(rng.integers(4, 8)))
    window = _find_window(rng, film, cover, ink.shape)
    if window is None:
        return
    film[window] += ink * (rng.integers(*style.greys) - film[window])
    cover[window] = things.TIME_STAMP


def _paste_lead(rng: np.random.Generator, film: np.ndarray, cover: np.ndarray, style: MarkStyle) -> None:
    """A wire that comes in over the edge and ends on the chest."""
    side = film.shape[0]
    canvas = Image.new("L", (SUPERSAMPLING * side, SUPERSAMPLING * side))
    pen = ImageDraw.Draw(canvas)
    curve = SUPERSAMPLING * side * _wire(rng)
    pen.line(curve.ravel().tolist(), fill=255, width=int(rng.integers(3, 6)), joint="curve")
    radius = SUPERSAMPLING * rng.uniform(2, 4)
    solid = _draw_electrode(pen, tuple(curve[-1]), radius, _pick(rng, style.electrodes))
    paint = np.asarray(canvas.resize((side, side), Image.Resampling.BOX), dtype=np.float32) / 255
    film += paint * rng.uniform(0.7, 1.0) * (np.maximum(film + 50, rng.integers(*style.greys)) - film)
    covered = ndimage.binary_dilation(paint > 0.3, np.ones((3, 3)))
    if solid is not None:  # the hole of a ring belongs to it
        rows, columns = np.indices(film.shape) + 0.5
        centre_x, centre_y = curve[-1] / SUPERSAMPLING
        covered |= np.hypot(rows - centre_y, columns - centre_x) <= solid / SUPERSAMPLING
    cover[covered & ~np.isin(cover, (things.LETTER, things.TIME_STAMP))] = things.LEAD


def _wire(rng: np.random.Generator) -> np.ndarray:
    """A smooth curve from beyond an edge to a point on the chest. Shapes: (24, 2), x and y in shares of the side."""
    start = np.array((rng.choice((-0.03, 1.03)), rng.uniform(0.1, 1)))
    if rng.random() < 0.4:
        start = np.array((rng.uniform(0.1, 0.9), rng.choice((-0.03, 1.03))))
    end = rng.uniform((0.2, 0.2), (0.8, 0.75))
    bends = start + (end - start) * np.array((0.35, 0.7))[:, None] + rng.normal(0, 0.14, (2, 2))
    t = np.linspace(0, 1, 24)[:, None]
    return (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * bends[0] + 3 * t**2 * (1 - t) * bends[1] + t**3 * end


def _draw_electrode(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, kind: str) -> float | None:
    """Draw what the wire ends in; the radius it fills, or None where it just ends."""
    if kind == "none":
        return None
    box = (centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius)
    if kind == "pad":
        pen.rounded_rectangle(box, radius=radius / 3, fill=255)
    elif kind == "disc":
        pen.ellipse(box, fill=255)
    else:
        pen.ellipse(box, outline=255, width=SUPERSAMPLING + 1)
    if kind == "target":
        pen.ellipse(tuple(np.add(box, (0.65 * radius, 0.65 * radius, -0.65 * radius, -0.65 * radius))), fill=255)
    return radius + SUPERSAMPLING


def write_text(text: str, font_name: str, height_px: int) -> np.ndarray:
    """White text, cropped to its ink. Shapes: (height_px or so, width), float32 in [0, 1]."""
    font = load_font(font_name, round(height_px / 0.72))  # capitals and digits are 0.72 of a font's size
    left, top, right, bottom = font.getbbox(text)
    canvas = Image.new("L", (int(right - left), int(bottom - top)))
    ImageDraw.Draw(canvas).text((-left, -top), text, font=font, fill=255)
    return np.minimum(np.asarray(canvas, dtype=np.float32) / 200, 1)


def _in_tag(ink: np.ndarray, tag: str) -> tuple[np.ndarray, np.ndarray]:
    """Put a letter in a tag: where the tag paints, and how light. Shapes: both (height, width), in [0, 1]."""
    ink = np.pad(ink, 2)
    if tag == "box":
        return np.ones_like(ink), 1 - 0.9 * ink
    if tag == "frame":
        frame = np.pad(np.zeros_like(ink), 1, constant_values=1)
        return np.ones_like(frame), np.maximum(frame, np.pad(ink, 1)) * 0.85 + 0.15
    side = round(1.15 * max(ink.shape))
    rest = side - np.array(ink.shape)
    ink = np.pad(ink, [(space // 2, space - space // 2) for space in rest])
    rows, columns = np.indices(ink.shape) - (side - 1) / 2
    disc = np.clip(side / 2 + 0.5 - np.hypot(rows, columns), 0, 1)
    return disc, 1 - 0.9 * ink


def _find_window(
    rng: np.random.Generator, film: np.ndarray, cover: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """An upper corner most of the time, else an edge, else anywhere; on no other mark and on no white ground."""
    spans = np.array(film.shape) - shape
    for _ in range(12):
        top, left = _propose_place(rng, spans)
        window = np.s_[top : top + shape[0], left : left + shape[1]]
        if np.isin(cover[window], things.FILM_MARKS).any() or np.median(film[window]) > GROUND_MAX:
            continue
        return window
    return None


def _propose_place(rng: np.random.Generator, spans: np.ndarray) -> tuple[int, int]:
    kind = rng.random()
    inset = np.minimum(rng.integers(1, 14, 2), spans)
    anywhere = rng.integers(spans + 1)
    left = int(rng.choice((inset[1], spans[1] - inset[1])))
    if kind < 0.55:
        return int(inset[0]), left
    if kind < 0.8:
        return int(anywhere[0]), left
    if kind < 0.88:
        return int(spans[0] - inset[0]), left
    return int(anywhere[0]), int(anywhere[1])


def _pick(rng: np.random.Generator, choices: tuple[str, ...]) -> str:
    return choices[rng.integers(len(choices))]


_Paster = Callable[[np.random.Generator, np.ndarray, np.ndarray, MarkStyle], None]
_PASTERS: tuple[_Paster, ...] = (_paste_letter, _paste_time_stamp, _paste_lead)

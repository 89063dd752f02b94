"""A sheet of examples: what was shown, what was said, what would have been right."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.nano.scoring import Answered
from services.lvlm.domain.panels import SEGMENT_COLOURS, render_panels

PER_SET = 3  # first the right one, then the wrong ones, where there are any
SIZE_PX = 224
COLOUR_NAMES = dict(zip(SEGMENT_COLOURS, ("red", "green", "blue", "yellow", "magenta", "cyan"), strict=True))


def draw_examples(sets: Mapping[str, Sequence[Answered]], out: Path) -> None:
    """Write the sheet: a row for each set, for each example the overlay beside the critic's words and the verdicts."""
    figure = Figure(figsize=(6.4 * PER_SET, 3.0 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), 2 * PER_SET, squeeze=False, width_ratios=[1, 1.5] * PER_SET)
    for row, (name, answered) in zip(axes, sets.items(), strict=True):
        for axis in row:
            axis.axis("off")
        for index, one in enumerate(_choose(answered)):
            _draw(row[2 * index], row[2 * index + 1], one)
        row[1].set_title(name, loc="left", fontsize=10, fontweight="bold")
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80)
    Image.open(drawn).convert("RGB").quantize(64).save(out, optimize=True)  # a third of the bytes, and as legible


def _choose(answered: Sequence[Answered]) -> list[Answered]:
    right = [one for one in answered if one.is_right][:1]
    wrong = [one for one in answered if not one.is_right]
    return (right + wrong)[:PER_SET]


def _draw(picture_axis: Axes, text_axis: Axes, one: Answered) -> None:
    masks = [one.case.numbers == number for number in range(1, len(one.case.covered) + 1)]
    (overlay,) = render_panels(one.case.picture, masks, ["overlay"], SIZE_PX)
    picture_axis.imshow(overlay)
    written = one.case.specification
    lines = [
        f"matters: {written.should_matter.text}",
        f"must not: {written.should_not_matter.text}",
        one.critique.reasons or one.critique.failure,
        *(
            f"{number} ({COLOUR_NAMES[number]}): {given}" + ("" if given == truth else f", right: {truth}")
            for number, (given, truth) in enumerate(zip(one.verdicts, one.truths, strict=True), start=1)
        ),
    ]
    text = "\n".join(textwrap.fill(line.replace("$", "\\$"), 52) for line in lines)
    text_axis.text(0, 1, text, fontsize=9, va="top", color="black" if one.is_right else "darkred")

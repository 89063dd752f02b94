"""Draw the learning curve from a training log.

Run: python -m services.lvlm.nano.plot --log FILE --out FILE.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

CURVES = {
    "dense_loss": "cells (helper)",
    "picture_loss": "answers, with pictures",
    "regions_loss": "boxes",
    "text_loss": "answers, text only",
    "shares_loss": "shares of a segment (helper)",
}


def draw_learning_curve(log: Path, out: Path) -> None:
    """Read a jsonl log and write the picture."""
    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label in CURVES.items():
        points = [(entry["step"], entry[key]) for entry in entries if key in entry]
        axes.semilogy(*zip(*points, strict=True), label=label, linewidth=1.2)
    begins = [entry["step"] for entry in entries if entry["stage"] == 2]
    if begins:
        axes.axvline(begins[0], color="grey", linewidth=0.8, linestyle=":")
    axes.set_xlabel("training step")
    axes.set_ylabel("training loss")
    axes.legend()
    figure.savefig(out, dpi=110)


def main() -> None:
    """Parse the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    draw_learning_curve(arguments.log, arguments.out)


if __name__ == "__main__":
    main()

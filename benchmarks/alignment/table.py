"""The result files as one Markdown table each.

Run: python -m benchmarks.alignment.table [PROBLEM ...]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.alignment.arms import ARMS

ORDER = list(ARMS)
RESULTS = Path(__file__).parent / "results"
HEAD = "| | seeds | all test pictures | worst group | gain in the worst group | against *nano* there | gate took |\n|---|---|---|---|---|---|---|\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("problems", nargs="*", metavar="PROBLEM", help="default: all that have results")
    names = parser.parse_args().problems or sorted(path.stem for path in RESULTS.glob("*.json"))
    for name in names:
        report = json.loads((RESULTS / f"{name}.json").read_text())
        if "summary" in report:
            sys.stdout.write(f"### {name}\n\n{tabulate(report['summary'])}\n")


def tabulate(summary: dict[str, dict[str, Any]]) -> str:
    """Accuracies in points: mean ± half-width of the 95 % interval over seeds; differences paired by seed, with p. Rows come in the order of the arms."""
    return HEAD + "".join(
        f"| {name} | {figures['overall']['seeds']} | {_show(figures['overall'])} | {_show(figures['worst_group'])} "
        f"| {_show(figures['worst_group'].get('gain_over_plain'))} | {_show(figures['worst_group'].get('above_nano'))} | {figures['accepted'] or ''} |\n"
        for name, figures in sorted(summary.items(), key=lambda row: ORDER.index(row[0]))
    )


def _show(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return ""
    half = "" if figure["half_width"] is None else f" ± {figure['half_width']:.1f}"
    p = f" (p {figure['p']:.1g})" if figure.get("p") is not None else ""
    return f"{figure['mean']:.1f}{half}{p}"


if __name__ == "__main__":
    main()

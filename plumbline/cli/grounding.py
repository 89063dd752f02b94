"""Where phrases lie in pictures, as the language model sees it: what to try before a specification is trusted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from plumbline.cli.session import console, failures_told
from plumbline.client import NamedImage
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.masks import decode_rle
from plumbline.names import short_name
from plumbline.report.pictures import draw_mask

Phrases = Annotated[list[str], typer.Option("--phrase", "-p", help="What to look for; may be given several times.")]
Out = Annotated[Path | None, typer.Option(file_okay=False, help="Folder for a PNG per phrase that was found.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table; boxes in pixels, masks as COCO RLE.")
]


def ground(
    context: typer.Context,
    images: Sequence[NamedImage],
    phrases: list[str],
    out: Path | None,
    is_json: bool,
    frame: int,
) -> None:
    """Ask, and show what came of it."""
    with failures_told(), context.obj.client() as client:
        found = client.ground(images, phrases, frame)
        if out is not None:
            _write_overlays(dict(images), found, out, frame)
    if is_json:
        typer.echo(json.dumps([_as_json(grounded) for grounded in found], indent=1))
    else:
        _print_table(found)


def _print_table(found: Sequence[lvlm_pb.GroundedPhrase]) -> None:
    table = Table("picture", "phrase", "state", "boxes (rows, columns)", "pixels of the picture")
    for grounded in found:
        boxes = ", ".join(
            f"{box.top_px}–{box.bottom_px}, {box.left_px}–{box.right_px}{' (whole)' if box.is_whole else ''}"
            for box in grounded.boxes
        )
        share = f"{_decode(grounded).mean():.1%}" if grounded.boxes else ""
        told = [grounded.image_id, grounded.phrase, _state(grounded), boxes or grounded.failure, share]
        table.add_row(*map(escape, told))
    console.print(table)


def _as_json(grounded: lvlm_pb.GroundedPhrase) -> dict[str, Any]:
    told: dict[str, Any] = {"picture": grounded.image_id, "phrase": grounded.phrase, "state": _state(grounded)}
    if grounded.boxes:
        told["boxes"] = [
            {
                "top_px": box.top_px,
                "left_px": box.left_px,
                "bottom_px": box.bottom_px,
                "right_px": box.right_px,
                "is_whole": box.is_whole,
            }
            for box in grounded.boxes
        ]
        told["mask"] = {"counts": grounded.mask.counts, "size": [grounded.mask.height_px, grounded.mask.width_px]}
    if grounded.failure:
        told["failure"] = grounded.failure
    return told


def _write_overlays(images: dict[str, bytes], found: Sequence[lvlm_pb.GroundedPhrase], out: Path, frame: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for number, grounded in enumerate(found):
        if grounded.boxes:
            name = re.sub(r"[^\w.-]+", "_", f"{grounded.image_id}.{number}.{grounded.phrase[:40]}")
            (out / f"{name}.png").write_bytes(draw_mask(images[grounded.image_id], _decode(grounded), frame))


def _decode(grounded: lvlm_pb.GroundedPhrase) -> np.ndarray:
    return decode_rle(grounded.mask.counts, grounded.mask.height_px, grounded.mask.width_px)


def _state(grounded: lvlm_pb.GroundedPhrase) -> str:
    return short_name(lvlm_pb.GroundingState, grounded.state)

"""The page on which a person looks at a job's critiques before it trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import jinja2
import numpy as np

from plumbline.common.v1 import critique_pb2
from plumbline.masks import decode_rle
from plumbline.messages import detach
from plumbline.names import short_name
from plumbline.report.pictures import COLOURS, embed_picture, open_picture
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

_DASHES = {critique_pb2.VERDICT_CORE: "5 3", critique_pb2.VERDICT_UNSURE: "1.5 2.5", critique_pb2.VERDICT_FAILED: "1 4"}
"""Verdicts are told apart without colours too."""


def render_review(job: trainer_pb.Alignment, pictures: Iterable[trainer_pb.CritiquedImage]) -> str:
    """HTML of a job's critiques and of what was decided of them, self-contained. Of the pictures only what is shown is kept."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plumbline.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = sorted(map(_tell, pictures), key=itemgetter("label", "name"))
    return environment.get_template("review.html.j2").render(
        job=job,
        state=short_name(trainer_pb.JobState, job.state),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        labels=sorted({card["label"] for card in cards}),
        decisions=Counter(card["decision"] for card in cards),
        pictures=cards,
        legend=[
            (short_name(critique_pb2.Verdict, verdict), _colour(verdict), _DASHES.get(verdict, ""))
            for verdict in COLOURS
        ],
    )


def outline(mask: np.ndarray) -> str:
    """The edges between a mask's pixels and the others, as an SVG path in pixels from the upper left corner."""
    across = _runs(mask, "h", lambda edge, start: (start, edge))
    down = _runs(mask.T, "v", lambda edge, start: (edge, start))
    return "".join([*across, *down])


def _runs(mask: np.ndarray, command: str, place: Any) -> list[str]:
    """Straight strokes along the boundaries between rows."""
    padded = np.pad(mask, ((1, 1), (0, 0)))
    edges = np.pad(padded[1:] != padded[:-1], ((0, 0), (1, 1))).astype(np.int8)
    changes = np.diff(edges, axis=1)
    strokes = []
    for (edge, start), (_, end) in zip(np.argwhere(changes == 1), np.argwhere(changes == -1), strict=True):
        x, y = place(edge, start)
        strokes.append(f"M{x} {y}{command}{end - start}")
    return strokes


def _tell(picture: trainer_pb.CritiquedImage) -> dict[str, Any]:
    critique, review = picture.critique, picture.review
    width_px, height_px = open_picture(picture.image.data).size
    views = [("", critique)]
    if review.HasField("edit"):
        views = [("as it came", critique), (f"as {review.reviewer} edited it", review.edit)]
    names = {short_name(critique_pb2.Verdict, verdict.verdict) for verdict in critique.verdicts}
    return {
        "name": critique.image_id,
        "label": critique.true_label,
        "digest": critique.image_digest.removeprefix("sha256:"),
        "uri": embed_picture(picture.image.data),
        "width_px": width_px,
        "height_px": height_px,
        "views": [(caption, _segments(view, height_px, width_px), detach(view)) for caption, view in views],
        "verdicts": " ".join(sorted(names)) or "NONE",
        "by": f"{picture.provenance.engine} {picture.provenance.model_id}".strip(),
        "decision": _decision(picture),
        "reviewer": review.reviewer,
        "reviewed_at": review.reviewed_at.ToDatetime().strftime("%Y-%m-%d %H:%M UTC") if review.reviewer else "",
        "reason": review.reason,
    }


def _segments(critique: critique_pb2.Critique, height_px: int, width_px: int) -> list[dict[str, Any]]:
    told = []
    for verdict in critique.verdicts:
        mask = decode_rle(verdict.mask.counts, verdict.mask.height_px, verdict.mask.width_px)
        is_drawn = mask.shape == (height_px, width_px) and mask.any()
        row, column = _heart(mask) if is_drawn else (0, 0)
        told.append(
            {
                "number": verdict.segment_index,
                "verdict": short_name(critique_pb2.Verdict, verdict.verdict),
                "colour": _colour(verdict.verdict),
                "dashes": _DASHES.get(verdict.verdict, ""),
                "share": verdict.share,
                "path": outline(mask) if is_drawn else "",
                "x": column + 0.5,
                "y": row + 0.5,
            }
        )
    return told


def _heart(mask: np.ndarray) -> tuple[int, int]:
    """The mask's pixel (row, column) that is nearest to its middle: where its number stands."""
    places = np.argwhere(mask)
    nearest = np.argmin(((places - places.mean(axis=0)) ** 2).sum(axis=1))
    return int(places[nearest][0]), int(places[nearest][1])


def _decision(picture: trainer_pb.CritiquedImage) -> str:
    if not picture.HasField("review"):
        return "OPEN"
    return short_name(trainer_pb.ReviewDecision, picture.review.decision)


def _colour(verdict: critique_pb2.Verdict) -> str:
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[verdict])

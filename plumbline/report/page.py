"""The page itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jinja2

from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.names import short_name
from plumbline.report.collect import JobReport
from plumbline.report.pictures import draw_picture, draw_verdicts, png_uri
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

SHOWN_EVIDENCE = 6
THUMBNAIL_PX = 56
_WAYS_TO_MASKS = {
    vision_pb2.MASK_SOURCE_JUDGED: "judged by critic and judge",
    vision_pb2.MASK_SOURCE_GROUNDED: "grounded where the phrases of the rules lie",
    vision_pb2.MASK_SOURCE_AGREED: "what judge and regions both say",
}


@dataclass(frozen=True)
class Truth:
    """What only a benchmark knows: accuracy per group and the judge held against the truth. A user's report has none of it.

    rows: name of the model, then a value per column; columns: names of the groups. notes are shown under the table.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]
    judge: Sequence[tuple[str, str]]
    notes: Sequence[str]


def render(report: JobReport, truth: Truth | None = None) -> str:
    """HTML of a job's report, self-contained."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plumbline.report", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["percent"] = lambda value: "–" if value is None else f"{100 * value:.1f} %"
    decision = report.metrics.get("decision", {})
    return environment.get_template("page.html.j2").render(
        job=report.job,
        state=short_name(trainer_pb.JobState, report.job.state),
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        specification=report.job.specification,
        metrics=report.metrics,
        decision=decision,
        measures=_measures(report.metrics),
        loss=short_name(trainer_pb.Loss, report.job.options.loss),
        selection=short_name(trainer_pb.Selection, report.job.options.selection),
        way_to_masks=_tell_way_to_masks(report),
        verdict_counts=sorted(report.job.verdict_counts.items()),
        examples=_examples(report),
        behaviour=_behaviour(report),
        models=report.models,
        truth=truth,
        critique_count=len(report.critiqued),
        failed_count=sum(bool(picture.critique.failure) for picture in report.critiqued),
        review=_tell_review(report),
    )


def _tell_way_to_masks(report: JobReport) -> str:
    told = _WAYS_TO_MASKS[report.job.mask_source]
    both = [
        verdict for picture in report.critiqued for verdict in picture.critique.verdicts if verdict.grounded_verdict
    ]
    disputed = sum(verdict.judged_verdict != verdict.grounded_verdict for verdict in both)
    return f"{told}; they disagree on {disputed} of {len(both)} segments" if both else told


def _tell_review(report: JobReport) -> str:
    """Who reviewed the critiques and what came of it; empty when nobody did."""
    reviews = [picture.review for picture in report.critiqued if picture.HasField("review")]
    if not reviews:
        return ""
    counts = Counter(review.decision for review in reviews)
    reviewers = ", ".join(sorted({review.reviewer for review in reviews}))
    told = (
        f"{counts[trainer_pb.REVIEW_DECISION_ACCEPT]} accepted, {counts[trainer_pb.REVIEW_DECISION_REJECT]} rejected "
        f"(they neither trained nor measured), {counts[trainer_pb.REVIEW_DECISION_EDIT]} edited"
    )
    return f"Reviewed by {reviewers}: {told}."


def _measures(metrics: dict[str, Any]) -> list[tuple[str, float | None, float | None]]:
    if "before" not in metrics:
        return []
    names = {
        "accuracy": "accuracy on held-out pictures, made like the training data",
        "swap_accuracy": "accuracy when criticised regions are swapped between classes",
        "flip_rate": "shortcut flip rate: the decision follows the swapped region",
    }
    return [(text, metrics["before"][name], metrics["after"][name]) for name, text in names.items()]


def _examples(report: JobReport) -> list[dict[str, Any]]:
    before = report.before.explanations if report.before else []
    after = report.after.explanations if report.after else [None] * len(before)
    return [
        {
            "label": picture.critique.true_label,
            "picture": draw_picture(picture.image.data),
            "verdicts": draw_verdicts(picture.image.data, counted),
            "names": [
                f"{verdict.segment_index}: {short_name(critique_pb2.Verdict, verdict.verdict)} ({verdict.share:.2f})"
                for verdict in counted.verdicts
            ],
            "reasons": counted.reasons,
            "review": _tell_decision(picture.review),
            "before": png_uri(old.overlay_png),
            "before_label": old.prediction.label,
            "after": png_uri(new.overlay_png) if new else None,
            "after_label": new.prediction.label if new else None,
        }
        for picture, counted, old, new in zip(report.shown, map(_counted, report.shown), before, after, strict=True)
    ]


def _counted(picture: trainer_pb.CritiquedImage) -> critique_pb2.Critique:
    """The critique that counts: the reviewer's, where one edited it."""
    return picture.review.edit if picture.review.HasField("edit") else picture.critique


def _tell_decision(review: trainer_pb.PictureReview) -> str:
    if not review.decision:
        return ""
    name = short_name(trainer_pb.ReviewDecision, review.decision)
    return f"{name} by {review.reviewer}{': ' if review.reason else ''}{review.reason}"


def _behaviour(report: JobReport) -> list[tuple[str, dict[str, Any], dict[str, Any] | None]]:
    """Per class what was said before and after, each with the evidence of its sentences."""
    if report.before is None:
        return []
    files = {picture.image.id: picture.image.data for picture in report.described}
    after = {entry.target_label: _told(entry, files) for entry in report.after.classes} if report.after else {}
    return [(entry.target_label, _told(entry, files), after.get(entry.target_label)) for entry in report.before.classes]


def _told(behaviour: lvlm_pb.ClassBehavior, files: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "is_written": behaviour.text_source == lvlm_pb.TEXT_SOURCE_WRITTEN,
        "claims": [
            {
                "text": claim.text,
                "things": list(claim.things),
                "image_count": len(claim.image_ids),
                "segments": list(claim.segments),
                "pictures": [
                    (image_id, draw_picture(files[image_id], THUMBNAIL_PX))
                    for image_id in claim.image_ids[:SHOWN_EVIDENCE]
                    if image_id in files
                ],
            }
            for claim in behaviour.claims
        ],
    }

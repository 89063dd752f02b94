"""A job's critiques as batches of our own JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from plumbline.common.v1 import critique_pb2
from plumbline.labelling.batches import MAX_BATCH_CRITIQUES
from plumbline.names import short_name
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb


def list_batches(
    job_id: str, model_digest: str, critiqued: Sequence[trainer_pb.CritiquedImage]
) -> list[dict[str, Any]]:
    """The critiques as they came, in batches of the number that a batch takes."""
    critiques = [write_critique(entry, model_digest) for entry in critiqued]
    return [
        {"schema_version": 1, "job_id": job_id, "critiques": critiques[start : start + MAX_BATCH_CRITIQUES]}
        for start in range(0, len(critiques), MAX_BATCH_CRITIQUES)
    ]


def write_critique(entry: trainer_pb.CritiquedImage, model_digest: str) -> dict[str, Any]:
    """A critique as docs/critique-batch.schema.json has it."""
    critique, provenance = entry.critique, entry.provenance
    return {
        "image_id": critique.image_id,
        "image_digest": critique.image_digest,
        "model_digest": model_digest,
        "true_label": critique.true_label,
        "reasons": critique.reasons,
        "verdicts": [_write_verdict(verdict) for verdict in critique.verdicts],
        "failure": critique.failure,
        "provenance": {
            "engine": provenance.engine,
            "model_id": provenance.model_id,
            "prompt_digest": provenance.prompt_digest,
            "seed": provenance.seed,
        },
    }


def read_critique(content: dict[str, Any]) -> critique_pb2.Critique:
    """The message of a critique as the schema has it; `KeyError`, `TypeError` or `ValueError` when it is none."""
    verdicts = [
        critique_pb2.SegmentVerdict(
            segment_index=verdict["segment_index"],
            verdict=f"VERDICT_{verdict['verdict']}",
            share=verdict["share"],
            mask={
                "counts": verdict["mask"]["counts"],
                "height_px": verdict["mask"]["size"][0],
                "width_px": verdict["mask"]["size"][1],
            },
        )
        for verdict in content.get("verdicts", ())
    ]
    texts = {name: content.get(name, "") for name in ("image_id", "image_digest", "true_label", "reasons", "failure")}
    return critique_pb2.Critique(verdicts=verdicts, **texts)


def _write_verdict(verdict: critique_pb2.SegmentVerdict) -> dict[str, Any]:
    written: dict[str, Any] = {
        "segment_index": verdict.segment_index,
        "verdict": short_name(critique_pb2.Verdict, verdict.verdict),
        "share": verdict.share,
        "mask": {"counts": verdict.mask.counts, "size": [verdict.mask.height_px, verdict.mask.width_px]},
    }
    for name in ("judged_verdict", "grounded_verdict"):
        if getattr(verdict, name):
            written[name] = short_name(critique_pb2.Verdict, getattr(verdict, name))
    return written

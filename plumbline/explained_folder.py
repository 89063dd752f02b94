"""A folder of explanations: for each picture a JSON, its map and its overlay, and what all of them say by class."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from google.protobuf.json_format import MessageToDict
from PIL import Image

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from plumbline.names import short_name
from plumbline.whole_files import write_whole

SUMMARY = "summary.json"
MAX_NAME_BYTES = 255 - len(".") - len(".explained.png") - len(".part")
"""Of a picture's file name, so that those of its files fit what file systems take."""


def describe_settings(asked: pb.ExplainRequest, used: pb.ExplainResponse) -> dict[str, Any]:
    """What an explanation depends on besides its picture. Not the version's number: a rollback serves the same weights under another."""
    return {
        "model_name": used.model.name,
        "model_digest": used.model.digest,
        "method": short_name(pb.AttributionMethod, used.method),
        "method_parameters": json.loads(used.method_parameters_json or "{}"),
        "segmentation": MessageToDict(used.segmentation, preserving_proto_field_name=True),
        "target_label": asked.target_label,
        "contrast_label": asked.contrast_label,
        "with_faithfulness": asked.with_faithfulness,
    }


@dataclass
class _ClassTally:
    """What is summed up of the pictures of a class; one map at a time is held, for there may be any number."""

    probabilities: list[float] = field(default_factory=list)
    first_shares: list[float] = field(default_factory=list)
    evidence: np.ndarray | None = None
    is_one_size: bool = True

    def add(self, explanation: Mapping[str, Any], evidence: np.ndarray) -> None:
        self.probabilities.append(max(explanation["prediction"]["probabilities"]))
        self.first_shares += [segment["share"] for segment in explanation.get("segments", [])[:1]]
        positive = np.maximum(evidence, 0).astype(np.float64)
        if self.evidence is None:
            self.evidence = positive
        elif self.evidence.shape == positive.shape:
            self.evidence += positive
        else:
            self.is_one_size = False

    def mean_evidence(self) -> np.ndarray | None:
        """Mean positive evidence (height, width); None where sizes differ."""
        if self.evidence is None or not self.is_one_size:
            return None
        return self.evidence / len(self.probabilities)


class ExplainedFolder:
    """Explanations below `root` that were made with `settings`; those made with others count as absent. Pictures are known by their path below their folder."""

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self._root = root
        self._settings = dict(settings)

    def has(self, name: str, image_digest: str) -> bool:
        """Whether the explanation of a picture with this content is here, whole."""
        return self._find(name, image_digest) is not None

    def keep(self, name: str, version: int, explanation: pb.Explanation) -> None:
        """Write a picture's files, the JSON last: where it is, all are."""
        told = pb.Explanation()
        told.CopyFrom(explanation)
        told.ClearField("attribution")
        told.ClearField("overlay_png")
        map_file = io.BytesIO()
        np.save(
            map_file,
            np.frombuffer(explanation.attribution.data, "<f4").reshape(tuple(explanation.attribution.shape)),
        )
        self._write(f"{name}.map.npy", map_file.getvalue())
        self._write(f"{name}.explained.png", explanation.overlay_png)
        record = {
            "settings": self._settings,
            "model_version": version,
            "explanation": MessageToDict(told, preserving_proto_field_name=True),
        }
        self._write(f"{name}.json", _to_json(record))

    def summarise(self, digests: Mapping[str, str]) -> dict[str, Any]:
        """What the explanations of these pictures, by name with the digest of their content, say by predicted class; written as summary.json.

        Beside it lies a PNG per class with the mean of the positive evidence, where all of its maps have one size: white is `largest_mean_evidence`, in logits.
        """
        tallies: dict[str, _ClassTally] = defaultdict(_ClassTally)
        missing = []
        for name in sorted(digests):
            explanation = self._find(name, digests[name])
            if explanation is None:
                missing.append(name)
            else:
                tallies[explanation["prediction"]["label"]].add(explanation, self._load_map(name))
        summary = {
            "settings": self._settings,
            "picture_count": len(digests) - len(missing),
            "missing": missing,
            "classes": {label: self._summarise_class(label, tallies[label]) for label in sorted(tallies)},
        }
        self._write(SUMMARY, _to_json(summary))
        return summary

    def _summarise_class(self, label: str, tally: _ClassTally) -> dict[str, Any]:
        evidence, file = tally.mean_evidence(), f"mean-evidence-{quote(label, safe='')}.png"
        if evidence is None:
            (self._root / file).unlink(missing_ok=True)
        else:
            self._write(file, _draw(evidence))
        return {
            "picture_count": len(tally.probabilities),
            "mean_probability": float(np.mean(tally.probabilities)),
            "without_positive_evidence": len(tally.probabilities) - len(tally.first_shares),
            "mean_share_of_first_segment": float(np.mean(tally.first_shares)) if tally.first_shares else None,
            "mean_evidence_png": None if evidence is None else file,
            "largest_mean_evidence": None if evidence is None else float(evidence.max()),
        }

    def _find(self, name: str, image_digest: str) -> dict[str, Any] | None:
        """A picture's explanation; None when there is none, or one of another content or with other settings."""
        try:
            record = json.loads((self._root / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict) or record.get("settings") != self._settings:
            return None
        explanation = record["explanation"]
        return explanation if explanation["image_digest"] == image_digest and self._is_whole(name) else None

    def _is_whole(self, name: str) -> bool:
        """Whether a picture's map and overlay hold what was written: a machine that loses its power may leave files shorter."""
        try:
            self._load_map(name)
            return (self._root / f"{name}.explained.png").stat().st_size > 0
        except (OSError, ValueError, EOFError):
            return False

    def _load_map(self, name: str) -> np.ndarray:
        # Mapped: to open it reads the header and compares the file's length with it, no more.
        return np.load(self._root / f"{name}.map.npy", mmap_mode="r")

    def _write(self, name: str, content: bytes) -> None:
        write_whole(self._root / name, content)


def _to_json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _draw(evidence: np.ndarray) -> bytes:
    """A grey PNG of a map without negative values, its largest white."""
    grey = np.round(evidence * (255 / max(float(evidence.max()), 1e-12))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="PNG")
    return file.getvalue()

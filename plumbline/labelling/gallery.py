"""The pictures of a job, found by the names that label tools give them, and the critiques made of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from plumbline.masks import encode_rle
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb

MAX_SEGMENTS = 64


@dataclass
class Findings:
    """Critiques as their JSON has them; faults: what could not be used, with the reason; unknown: names that are none of the job's pictures."""

    critiques: list[Any] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Gallery:
    """The pictures that a job has chosen; `by` says who drew, by name or role."""

    def __init__(self, pictures: Iterable[trainer_pb.ChosenPicture], model_digest: str, by: str) -> None:
        self._model_digest = model_digest
        self._by = by
        self._by_path: dict[str, trainer_pb.ChosenPicture] = {}
        self._by_name: dict[str, list[trainer_pb.ChosenPicture]] = defaultdict(list)
        self._by_stem: dict[str, list[trainer_pb.ChosenPicture]] = defaultdict(list)
        for picture in pictures:
            path = PurePosixPath(picture.image_id)
            self._by_path[str(path)] = picture
            self._by_name[path.name].append(picture)
            self._by_stem[path.stem].append(picture)

    def find(self, file_name: str) -> trainer_pb.ChosenPicture | None:
        """The picture of that path, or the only one of that file name in whatever folder."""
        path = PurePosixPath(file_name.replace("\\", "/"))
        named = self._by_name.get(path.name, [])
        return self._by_path.get(str(path)) or (named[0] if len(named) == 1 else None)

    def find_stem(self, stem: str) -> trainer_pb.ChosenPicture | None:
        """The only picture whose file name is `stem` without its ending."""
        named = self._by_stem.get(stem, [])
        return named[0] if len(named) == 1 else None

    def critique(
        self, picture: trainer_pb.ChosenPicture, segments: Sequence[tuple[str, np.ndarray]], reasons: str = ""
    ) -> dict[str, Any]:
        """A person's critique; segments: verdict and boolean (height, width) mask. No evidence was measured in them: their share is 0.

        Raises
        ------
        ValueError
            When there are more segments than a critique takes.
        """
        if len(segments) > MAX_SEGMENTS:
            raise ValueError(f"{len(segments)} segments; at most {MAX_SEGMENTS} are taken")
        size = [picture.height_px, picture.width_px]
        verdicts = [
            {
                "segment_index": number,
                "verdict": verdict,
                "share": 0.0,
                "mask": {"counts": encode_rle(mask), "size": size},
            }
            for number, (verdict, mask) in enumerate(segments, start=1)
        ]
        return {
            "image_id": picture.image_id,
            "image_digest": picture.image_digest,
            "model_digest": self._model_digest,
            "true_label": picture.true_label,
            "reasons": reasons,
            "verdicts": verdicts,
            "provenance": {"engine": "person", "model_id": self._by},
        }

"""What the demo's numbers are held against: the same fine-tuning in other ways, and the judge against the truth.

Only here is the truth about the squares read; nothing of it reaches the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch

from benchmarks.decoy.data import DecoyDigits
from benchmarks.decoy.shortcut_model import LABELS, to_pixels
from plumbline.common.v1 import critique_pb2
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from services.common.vision.masks import decode_mask
from services.trainer.domain.alignment import align, steps_for
from services.trainer.domain.evidence import predict
from services.trainer.domain.fine_tuning import Recipe
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.selection import Split

SPURIOUS_RATIO = 0.5
"""A segment is truly spurious when more than half of its pixels lie on the square, truly core when none does."""


@dataclass(frozen=True)
class GroupAccuracy:
    """Test accuracy; ratios. `conflicting`: the square stands for another class; `worst_class` among those."""

    overall: float
    aligned: float
    conflicting: float
    worst_class: float

    @classmethod
    def of(cls, predicted: np.ndarray, test: DecoyDigits) -> GroupAccuracy:
        """Of predictions (n,) on the test pictures."""
        is_right, is_conflicting = predicted == test.labels, test.is_conflicting
        return cls(
            float(is_right.mean()),
            float(is_right[~is_conflicting].mean()),
            float(is_right[is_conflicting].mean()),
            min(float(is_right[is_conflicting & (test.labels == label)].mean()) for label in range(len(LABELS))),
        )

    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class JobSet:
    """What a job trained on: all pictures, its split, and the rows that were critiqued."""

    known: DecoyDigits
    split: Split
    critiqued: np.ndarray
    held_out: np.ndarray

    def align(
        self,
        model: torch.nn.Module,
        masks: np.ndarray,
        epochs: int,
        seed: int,
        on_step: Callable[[int, int, float], None],
        recipe: Recipe | None = None,
    ) -> torch.nn.Module:
        """The trainer's own `align` on the job's own pictures, with other masks, (n, 28, 28) of all pictures, or in another way."""
        result = align(
            model,
            self._pictures(self.split.train),
            self._pictures(self.critiqued, masks),
            self._pictures(self.split.validation),
            self._pictures(self.held_out, masks),
            steps_for(len(self.split.train), epochs),
            seed,
            on_step,
            recipe,
        )
        return result.model

    def _pictures(self, rows: np.ndarray, masks: np.ndarray | None = None) -> Pictures:
        labels = torch.from_numpy(self.known.labels[rows])
        return Pictures(
            to_pixels(self.known.pictures[rows]), labels, None if masks is None else torch.from_numpy(masks[rows])
        )


def judged_masks(critiqued: Sequence[trainer_pb.CritiquedImage], rows: dict[str, int], like: np.ndarray) -> np.ndarray:
    """Union of the spurious segments of every critiqued picture, empty for all others; shaped as `like` (n, 28, 28)."""
    masks = np.zeros_like(like)
    for picture in critiqued:
        masks[rows[picture.critique.image_id]] = _spurious_union(picture.critique, like.shape[1:])
    return masks


def _spurious_union(critique: critique_pb2.Critique, size: tuple[int, int]) -> np.ndarray:
    union = np.zeros(size, dtype=bool)
    for verdict in critique.verdicts:
        if verdict.verdict == critique_pb2.VERDICT_SPURIOUS:
            union |= decode_mask(verdict.mask.counts, *size)
    return union


def predict_test(model: torch.nn.Module, test: DecoyDigits) -> np.ndarray:
    """Predicted classes (n,)."""
    return predict(model, to_pixels(test.pictures)).numpy()


@dataclass(frozen=True)
class JudgeScore:
    """The judge against the truth. Ratios are None when there was nothing to count.

    verdict_accuracy: over segments that are truly spurious or core and were judged one of the two. decided: share of such segments that
    were judged so. spurious_recall: of truly spurious segments. core_kept: of truly core segments, not judged spurious. mask_iou: of the
    union of spurious segments with the square, over pictures with a mask.
    """

    segment_count: int
    verdict_accuracy: float | None
    decided: float | None
    spurious_recall: float | None
    core_kept: float | None
    mask_iou: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain values, for JSON."""
        return asdict(self)


def score_judge(critiqued: Sequence[trainer_pb.CritiquedImage], squares: dict[str, np.ndarray]) -> JudgeScore:
    """Hold every verdict against the square of its picture; `squares` by picture id, bool (28, 28)."""
    pairs: list[tuple[bool, int]] = []
    overlaps: list[tuple[int, int]] = []
    for picture in critiqued:
        square = squares[picture.critique.image_id]
        union = _spurious_union(picture.critique, square.shape)
        for verdict in picture.critique.verdicts:
            mask = decode_mask(verdict.mask.counts, *square.shape)
            covered = (mask & square).sum() / mask.sum()
            if covered > SPURIOUS_RATIO or covered == 0:
                pairs.append((bool(covered), verdict.verdict))
        if union.any():
            overlaps.append((int((union & square).sum()), int((union | square).sum())))
    spurious, core = critique_pb2.VERDICT_SPURIOUS, critique_pb2.VERDICT_CORE
    decided = [(truth, verdict) for truth, verdict in pairs if verdict in (spurious, core)]
    return JudgeScore(
        segment_count=len(pairs),
        verdict_accuracy=_mean(truth == (verdict == spurious) for truth, verdict in decided),
        decided=len(decided) / len(pairs) if pairs else None,
        spurious_recall=_mean(verdict == spurious for truth, verdict in pairs if truth),
        core_kept=_mean(verdict != spurious for truth, verdict in pairs if not truth),
        mask_iou=sum(o[0] for o in overlaps) / sum(o[1] for o in overlaps) if overlaps else None,
    )


def _mean(hits) -> float | None:
    values = list(hits)
    return sum(values) / len(values) if values else None

"""One problem and seed with all that its arms share: the plain model, the pictures that are critiqued, what the LVLM said of them.

The plain model and the LVLM's verdicts are kept in a folder, by a digest of what they were made from, so that a run that was cut off goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageClassification, PreTrainedModel

from benchmarks.alignment.judging import Explained, explain, judge_with_lvlm
from benchmarks.alignment.problem import LabelledPictures, Problem
from services.common.vision.nets import register_nets
from services.explainer.domain.segmentation.segments import SegmentationOptions
from services.lvlm.settings import NANO
from services.trainer.domain.alignment import Alignment, align
from services.trainer.domain.evidence import predict
from services.trainer.domain.fine_tuning import Recipe
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.selection import Selection, select_for_alignment, select_held_out

_AT_ONCE = 1024


@dataclass(frozen=True)
class Effort:
    """Pictures critiqued per class, steps of fine-tuning, and the size of batches as a ratio of the recipe's.

    Baselines have batches of the recipe's full size, and so take as many fewer steps: they see as many pictures.
    """

    per_class: int
    step_count: int
    batch_ratio: float = 1.0

    @property
    def baseline_step_count(self) -> int:
        """Steps of a baseline."""
        return round(self.step_count * self.batch_ratio)

    def scale(self, recipe: Recipe) -> Recipe:
        """The recipe with batches of this effort's size."""
        counts = ("ordinary_count", "critiqued_count", "moved_count")
        return replace(recipe, **{name: round(getattr(recipe, name) * self.batch_ratio) for name in counts})


@dataclass(frozen=True)
class Critiqued:
    """Pictures with what the LVLM said of their segments."""

    explained: Explained
    verdicts: np.ndarray


class Stage:
    """What the arms of one problem and seed work with."""

    def __init__(self, problem: Problem, effort: Effort, seed: int, cache: Path, threads: int) -> None:
        self.problem = problem
        self.effort = effort
        self.seed = seed
        self._cache = cache
        self._threads = threads
        self._critiqued: dict[tuple[str, SegmentationOptions, Selection], Critiqued] = {}
        self.train, self.validation = self.pictures(problem.train), self.pictures(problem.validation)
        self.plain = self._load_plain()
        self.plain_digest = digest_of(*(tensor.numpy() for tensor in self.plain.state_dict().values()))

    def align(
        self,
        recipe: Recipe,
        choose: Callable[[Critiqued], np.ndarray],
        options: SegmentationOptions | None = None,
        selection: Selection = Selection.LOW_ENTROPY_PER_CLASS,
    ) -> Alignment:
        """The trainer's own `align`, on the masks that `choose` makes of critiqued and of held-out pictures."""
        critiqued, held_out = (self.critique(part, options, selection) for part in ("train", "held_out"))
        return align(
            self.plain,
            self.train,
            self.pictures(critiqued.explained.shown, choose(critiqued)),
            self.validation,
            self.pictures(held_out.explained.shown, choose(held_out)),
            self.effort.step_count,
            self.seed,
            recipe=self.effort.scale(recipe),
        )

    def critique(
        self,
        part: str = "train",
        options: SegmentationOptions | None = None,
        selection: Selection = Selection.LOW_ENTROPY_PER_CLASS,
    ) -> Critiqued:
        """What the LVLM says of the pictures to train on ("train") or of those held out ("held_out")."""
        options = options or SegmentationOptions()
        key = (part, options, selection)
        if key not in self._critiqued:
            self._critiqued[key] = self._critique(part, options, selection)
        return self._critiqued[key]

    def score(self, model: PreTrainedModel) -> dict[str, float | dict[str, float]]:
        """Test accuracy: of all pictures, by group, of the worst group."""
        test = self.problem.test
        is_right = self._predict(model, test) == test.labels
        groups = {
            name: float(is_right[test.groups == number].mean()) for number, name in enumerate(self.problem.group_names)
        }
        return {"overall": float(is_right.mean()), "worst_group": min(groups.values()), "groups": groups}

    def _critique(self, part: str, options: SegmentationOptions, selection: Selection) -> Critiqued:
        shown = self._select(part, selection)
        path = (
            self._cache
            / f"critiques-{part}-{digest_of(shown.pictures, self.plain_digest, options, _nano_digest())}.npz"
        )
        if path.exists():
            with np.load(path) as kept:
                explained = Explained(shown, kept["decided"], kept["numbers"])
                return Critiqued(explained, kept["verdicts"])
        explained = explain(self.problem, self.plain, shown, self.seed, options)
        verdicts = judge_with_lvlm(self.problem, explained, self._threads)
        np.savez_compressed(path, decided=explained.decided, numbers=explained.numbers, verdicts=verdicts)
        return Critiqued(explained, verdicts)

    def _select(self, part: str, selection: Selection) -> LabelledPictures:
        source = self.problem.train if part == "train" else self.problem.validation
        names, rows = [self.problem.labels[label] for label in source.labels], np.arange(len(source))
        if part != "train":
            return source.take(select_held_out(names, rows, self.seed))
        probabilities = self._probabilities()
        chosen = select_for_alignment(probabilities, names, rows, self.effort.per_class, selection, self.seed)
        return source.take(chosen)

    def _probabilities(self) -> np.ndarray:
        with torch.inference_mode():
            parts = [self.plain(pixel_values=part).logits.softmax(dim=1) for part in self.train.pixels.split(_AT_ONCE)]
        return torch.cat(parts).double().numpy()

    def _predict(self, model: PreTrainedModel, shown: LabelledPictures) -> np.ndarray:
        parts = range(0, len(shown), _AT_ONCE)
        pixels = (self.problem.to_pixels(shown.pictures[start : start + _AT_ONCE]) for start in parts)
        return np.concatenate([predict(model, part).numpy() for part in pixels])

    def pictures(self, shown: LabelledPictures, masks: np.ndarray | None = None) -> Pictures:
        """As the trainer has them."""
        labels = torch.from_numpy(shown.labels)
        return Pictures(
            self.problem.to_pixels(shown.pictures), labels, None if masks is None else torch.from_numpy(masks)
        )

    def _load_plain(self) -> PreTrainedModel:
        register_nets()
        folder = self._cache / f"plain-{digest_of(self.problem.train.pictures)}"
        if not folder.exists():
            self.problem.train_shortcut(self.problem.train, self.seed).save_pretrained(folder)
        return AutoModelForImageClassification.from_pretrained(folder).eval()


def _nano_digest() -> str:
    return hashlib.sha256((NANO / "model.safetensors").read_bytes()).hexdigest()


def digest_of(*parts: object) -> str:
    """Of arrays and of what is told by its `repr`."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes() if isinstance(part, np.ndarray) else repr(part).encode())
    return digest.hexdigest()[:16]

"""Endless training batches from drawn shards, made in worker processes beside the training loop."""

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerFast

from services.lvlm.nano import batches
from services.lvlm.nano.draw import View, view_record
from services.lvlm.nano.variation import vary
from services.lvlm.nano.worlds import WORLDS, World

SHARD_USES = 6  # batches taken from a shard before another one is opened


@dataclass(frozen=True)
class StepSize:
    """How many pictures a step looks at, how many of them it asks about, in how many others it looks for something, and its
    questions without pictures."""

    looked_at: int
    asked_about: int = 0
    searched: int = 0
    text_only: int = 0

    def times(self, count: int) -> "StepSize":
        """Steps of so many times the size."""
        return StepSize(*(count * part for part in astuple(self)))


@dataclass(frozen=True)
class StepBatch:
    """One training step.

    Shapes: panels (record, 2, 3, IMAGE_PX, IMAGE_PX) uint8; targets (record, CELL_COUNT, classes). The questions are one about each of the
    first `asked_count` records with its overlay, one about the bare picture of each of the next `searched_count`, and some without
    pictures; None where there is nothing to ask.
    """

    panels: torch.Tensor
    targets: torch.Tensor
    asked_count: int = 0
    searched_count: int = 0
    questions: batches.Tokens | None = None

    def to(self, device: torch.device) -> "StepBatch":
        """The same step on another device."""
        panels, targets = (part.to(device, non_blocking=True) for part in (self.panels, self.targets))
        return replace(self, panels=panels, targets=targets, questions=self.questions and self.questions.to(device))

    def pin_memory(self) -> "StepBatch":
        """The same step where a GPU can fetch it by itself."""
        panels, targets = self.panels.pin_memory(), self.targets.pin_memory()
        return replace(self, panels=panels, targets=targets, questions=self.questions and self.questions.pin_memory())


class DrawnStream(IterableDataset):
    """Batches of one stage."""

    def __init__(
        self, cache: Path, worlds: Sequence[str], tokenizer: PreTrainedTokenizerFast, size: StepSize, seed: int
    ) -> None:
        self._cache, self._worlds, self._tokenizer, self._size, self._seed = cache, worlds, tokenizer, size, seed

    def __iter__(self) -> Iterator[StepBatch]:
        torch.set_num_threads(1)
        worker = get_worker_info()
        rng = np.random.default_rng((self._seed, worker.id if worker else 0))
        while True:
            shards = [self._open_shard(rng, name) for name in self._worlds]
            for _ in range(SHARD_USES):
                yield self._batch(rng, self._choose(rng, shards))

    def _open_shard(self, rng: np.random.Generator, world: str) -> np.ndarray:
        """A shard of the world; those drawn since the last look take part."""
        paths = sorted(self._cache.glob(f"{world}-[0-9][0-9][0-9][0-9].npy"))
        if not paths:
            raise FileNotFoundError(
                f"{self._cache}: no shard of the world '{world}'; draw some first (services.lvlm.nano.draw)"
            )
        return np.load(paths[rng.integers(len(paths))], mmap_mode="r")

    def _choose(self, rng: np.random.Generator, shards: list[np.ndarray]) -> list[tuple[View, World]]:
        """Records in turn from every world, each varied."""
        worlds = [WORLDS[name] for name in self._worlds]
        turns = [index % len(worlds) for index in range(self._size.looked_at)]
        chosen = [(shards[turn][rng.integers(len(shards[turn]))], worlds[turn]) for turn in turns]
        return [(vary(rng, view_record(record), world), world) for record, world in chosen]

    def _batch(self, rng: np.random.Generator, chosen: list[tuple[View, World]]) -> StepBatch:
        rendered = [batches.render(view) for view, _ in chosen]
        panels = torch.from_numpy(np.stack([panels for panels, _ in rendered]))
        targets = torch.from_numpy(np.stack([targets for _, targets in rendered]))
        size = self._size
        if not size.asked_about:
            return StepBatch(panels, targets)
        searched = chosen[size.asked_about : size.asked_about + size.searched]
        questions = {
            "picture": [batches.draw_picture_question(rng, *pair) for pair in chosen[: size.asked_about]],
            "regions": [batches.draw_region_question(rng, *pair) for pair in searched],
            "text": [batches.draw_text_question(rng, self._worlds) for _ in range(size.text_only)],
        }
        encoded = batches.encode(self._tokenizer, questions)
        return StepBatch(panels, targets, size.asked_about, size.searched, encoded)


def open_stream(stream: DrawnStream, worker_count: int, is_pinned: bool) -> Iterator[StepBatch]:
    """Run a stream in worker processes, each a few batches ahead and with a sequence of its own; pinned, for a GPU to fetch."""
    return iter(DataLoader(stream, batch_size=None, num_workers=worker_count, prefetch_factor=4, pin_memory=is_pinned))

"""Endless training batches from drawn shards, made in a worker process beside the training loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerFast

from services.lvlm.nano import batches
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


@dataclass(frozen=True)
class StepBatch:
    """One training step.

    Shapes: panels (record, 2, 3, IMAGE_PX, IMAGE_PX); targets (record, CELL_COUNT, classes). `picture` asks one question about each of the
    first records, `regions` one about the bare picture of each of the next; `text` are questions without pictures. None where there is
    nothing to ask.
    """

    panels: torch.Tensor
    targets: torch.Tensor
    picture: batches.Tokens | None
    regions: batches.Tokens | None
    text: batches.Tokens | None


class DrawnStream(IterableDataset):
    """Batches of one stage."""

    def __init__(
        self, cache: Path, worlds: Sequence[str], tokenizer: PreTrainedTokenizerFast, size: StepSize, seed: int
    ) -> None:
        self._cache, self._worlds, self._tokenizer, self._size, self._seed = cache, worlds, tokenizer, size, seed

    def __iter__(self) -> Iterator[StepBatch]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self._seed)
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

    def _choose(self, rng: np.random.Generator, shards: list[np.ndarray]) -> list[tuple[np.ndarray, World]]:
        """Records in turn from every world."""
        worlds = [WORLDS[name] for name in self._worlds]
        turns = [index % len(worlds) for index in range(self._size.looked_at)]
        return [(shards[turn][rng.integers(len(shards[turn]))], worlds[turn]) for turn in turns]

    def _batch(self, rng: np.random.Generator, chosen: list[tuple[np.ndarray, World]]) -> StepBatch:
        rendered = [batches.render_record(record, batches.draw_tint(rng, record)) for record, _ in chosen]
        panels = torch.from_numpy(np.stack([panels for panels, _ in rendered]))
        targets = torch.from_numpy(np.stack([targets for _, targets in rendered]))
        size = self._size
        if not size.asked_about:
            return StepBatch(panels, targets, None, None, None)
        searched = chosen[size.asked_about : size.asked_about + size.searched]
        questions = [batches.draw_picture_question(rng, *pair) for pair in chosen[: size.asked_about]]
        searches = [batches.draw_region_question(rng, *pair) for pair in searched]
        texts = [batches.draw_text_question(rng, self._worlds) for _ in range(size.text_only)]
        return StepBatch(
            panels,
            targets,
            batches.encode(self._tokenizer, questions, image_count=len(batches.PANELS)),
            batches.encode(self._tokenizer, searches, image_count=1),
            batches.encode(self._tokenizer, texts, image_count=0),
        )


def open_stream(stream: DrawnStream) -> Iterator[StepBatch]:
    """Run a stream in one worker process, a few batches ahead."""
    return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))

"""Endless training batches from drawn shards, made in a worker process beside the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerFast

from services.lvlm.nano import batches

SHARD_USES = 6  # batches taken from a shard before another one is opened


@dataclass(frozen=True)
class StepSize:
    """How many pictures a step looks at, about how many of them it asks, and its questions without pictures."""

    looked_at: int
    asked_about: int = 0
    text_only: int = 0


@dataclass(frozen=True)
class StepBatch:
    """One training step.

    Shapes: panels (record, 2, 3, IMAGE_PX, IMAGE_PX); targets (record, CELL_COUNT, classes). `picture` asks one question about each of the
    first records; `text` are questions without pictures. Both None where there is nothing to ask.
    """

    panels: torch.Tensor
    targets: torch.Tensor
    picture: batches.Tokens | None
    text: batches.Tokens | None


class DrawnStream(IterableDataset):
    """Batches of one stage."""

    def __init__(self, cache: Path, tokenizer: PreTrainedTokenizerFast, size: StepSize, seed: int) -> None:
        self._cache, self._tokenizer, self._size, self._seed = cache, tokenizer, size, seed

    def __iter__(self) -> Iterator[StepBatch]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self._seed)
        while True:
            shards = sorted(self._cache.glob("train-[0-9]*.npy"))
            shards = [path for path in shards if "partial" not in path.name]
            records = np.load(shards[rng.integers(len(shards))], mmap_mode="r")
            for _ in range(SHARD_USES):
                chosen = records[rng.permutation(len(records))[: self._size.looked_at]]
                yield self._batch(rng, chosen)

    def _batch(self, rng: np.random.Generator, records: np.ndarray) -> StepBatch:
        rendered = [batches.render_record(record, batches.draw_tint(rng)) for record in records]
        panels = torch.from_numpy(np.stack([panels for panels, _ in rendered]))
        targets = torch.from_numpy(np.stack([targets for _, targets in rendered]))
        if not self._size.asked_about:
            return StepBatch(panels, targets, None, None)
        asked = records[: self._size.asked_about]
        questions = [batches.draw_picture_question(rng, record, "train") for record in asked]
        texts = [batches.draw_text_question(rng, "train") for _ in range(self._size.text_only)]
        return StepBatch(
            panels,
            targets,
            batches.encode(self._tokenizer, questions, image_count=len(batches.PANELS)),
            batches.encode(self._tokenizer, texts, image_count=0),
        )


def open_stream(stream: DrawnStream) -> Iterator[StepBatch]:
    """Run a stream in one worker process, a few batches ahead."""
    return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))

"""Endless training batches from drawn shards, made in a worker process beside the training loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import PreTrainedTokenizerFast

from services.lvlm.nano import batches

QUESTIONS_PER_PICTURE = 1
SHARD_USES = 6  # batches taken from a shard before another one is opened


@dataclass(frozen=True)
class StepBatch:
    """One training step.

    Shapes: panels (record, 2, 3, 128, 128); targets (record, 64, classes). A record's questions stand side by side in `picture`;
    `text` are questions without pictures.
    """

    panels: torch.Tensor
    targets: torch.Tensor
    picture: batches.Tokens | None
    text: batches.Tokens | None


class DrawnStream(IterableDataset):
    """Batches of one stage; `text_count` of 0 means pictures and dense targets only."""

    def __init__(
        self, cache: Path, tokenizer: PreTrainedTokenizerFast, record_count: int, text_count: int, seed: int
    ) -> None:
        self._cache, self._tokenizer, self._seed = cache, tokenizer, seed
        self._record_count, self._text_count = record_count, text_count

    def __iter__(self) -> Iterator[StepBatch]:
        torch.set_num_threads(1)
        rng = np.random.default_rng(self._seed)
        while True:
            shards = sorted(self._cache.glob("train-[0-9]*.npy"))
            shards = [path for path in shards if "partial" not in path.name]
            records = np.load(shards[rng.integers(len(shards))], mmap_mode="r")
            for _ in range(SHARD_USES):
                chosen = records[np.sort(rng.choice(len(records), self._record_count, replace=False))]
                yield self._batch(rng, chosen)

    def _batch(self, rng: np.random.Generator, records: np.ndarray) -> StepBatch:
        rendered = [batches.render_record(record, batches.draw_tint(rng)) for record in records]
        panels = torch.from_numpy(np.stack([panels for panels, _ in rendered]))
        targets = torch.from_numpy(np.stack([targets for _, targets in rendered]))
        if self._text_count == 0:
            return StepBatch(panels, targets, None, None)
        questions = [
            batches.draw_picture_question(rng, record, "train")
            for record in records
            for _ in range(QUESTIONS_PER_PICTURE)
        ]
        texts = [batches.draw_text_question(rng, "train") for _ in range(self._text_count)]
        return StepBatch(
            panels,
            targets,
            batches.encode(self._tokenizer, questions, image_count=len(batches.PANELS)),
            batches.encode(self._tokenizer, texts, image_count=0),
        )


def open_stream(stream: DrawnStream) -> Iterator[StepBatch]:
    """Run a stream in one worker process, a few batches ahead."""
    return iter(DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))

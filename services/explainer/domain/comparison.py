"""How two versions' answers to the same pictures compare. Numbers only: no picture is kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np


@dataclass
class Comparison:
    """Counts of a champion's and a shadow's answers; `confusion` (class, class) int64 has the champion's label in its rows, the shadow's in its columns."""

    champion_version: int
    shadow_version: int
    labels: tuple[str, ...]
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    failed_count: int = 0
    dropped_count: int = 0

    def __post_init__(self) -> None:
        self.confusion = np.zeros((len(self.labels), len(self.labels)), dtype=np.int64)
        self._difference_sum = 0.0

    def add(self, champion: np.ndarray, shadow: np.ndarray) -> None:
        """Count pictures by their probabilities, each (picture, class). Where one of the two says what is no number, the picture failed.

        The largest of probabilities that are NaN is the first: such a shadow would agree on every picture of the first class.
        """
        is_answered = np.isfinite(champion).all(axis=1) & np.isfinite(shadow).all(axis=1)
        self.failed_count += int((~is_answered).sum())
        champion, shadow = champion[is_answered], shadow[is_answered]
        np.add.at(self.confusion, (champion.argmax(axis=1), shadow.argmax(axis=1)), 1)
        self._difference_sum += float(np.abs(champion - shadow).mean(axis=1).sum())

    @property
    def picture_count(self) -> int:
        """Pictures that both answered."""
        return int(self.confusion.sum())

    @property
    def agreement(self) -> float:
        """Part of these with the same label, 0 to 1; 0 before the first."""
        return float(self.confusion.trace()) / max(1, self.picture_count)

    @property
    def mean_difference(self) -> float:
        """Mean absolute difference of a probability over pictures and classes, 0 to 1; 0 before the first."""
        return self._difference_sum / max(1, self.picture_count)

"""How many of a model's labels a picture may have, and so what its scores mean."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

PREDICTED_FROM = 0.5
"""A label of several counts as predicted above this probability."""


class ProblemType(StrEnum):
    """As `transformers` names it in a model's `config.json`."""

    SINGLE_LABEL = "single_label_classification"
    """One label: a softmax over all."""
    MULTI_LABEL = "multi_label_classification"
    """Any number of labels, none too: a sigmoid for each by itself."""

    def read_probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Probabilities (picture, label) float64 of logits of that shape; of a single label's those of a picture sum to 1."""
        values = logits.astype(np.float64)
        if self is ProblemType.MULTI_LABEL:
            # Written so that no exponential overflows.
            return np.exp(-np.logaddexp(0.0, -values))
        shifted = np.exp(values - values.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)

"""What every alignment loss takes and gives. Cross-entropy and the penalty's strength are the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel

from services.trainer.domain.pictures import Pictures

EVERY_ROW = slice(None)


@dataclass(frozen=True)
class Penalised:
    """logits (row, class) of the masked pictures as they are; penalty, a scalar, at least 0; both differentiable by the weights."""

    logits: torch.Tensor
    penalty: torch.Tensor


class AlignmentLoss(Protocol):
    """One way to measure how much a model uses what the masks cover."""

    def __call__(
        self, model: PreTrainedModel, masked: Pictures, generator: torch.Generator, rows: slice = EVERY_ROW
    ) -> Penalised:
        """The penalty is a mean over the pictures of `rows`; one with an empty mask adds 0. What is drawn, or rests on a batch's range, goes by the whole
        batch, so the means over parts of a batch make up that of the batch.

        `masked` has pixels (batch, channel, height, width) and masks (batch, height, width). All randomness comes from `generator`, which
        is on the CPU. The gradients of the weights are left as they are.
        """

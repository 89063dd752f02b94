"""Losses that keep a model from using what a mask covers. One file per loss; this table gives them their names."""

from __future__ import annotations

from services.trainer.domain.job import Loss
from services.trainer.domain.losses.base import AlignmentLoss, Penalised
from services.trainer.domain.losses.mask_out import MaskOut
from services.trainer.domain.losses.r4 import RobustRightReasons
from services.trainer.domain.losses.rrr import RightReasons

LOSSES: dict[Loss, AlignmentLoss] = {
    Loss.RRR: RightReasons(),
    Loss.R4: RobustRightReasons(),
    Loss.MASK_OUT: MaskOut(),
}
DEFAULT_LOSS = Loss.RRR

__all__ = ["DEFAULT_LOSS", "LOSSES", "AlignmentLoss", "Penalised"]

"""`Consuming` that counts what becomes of critiques, whichever way they come."""

from __future__ import annotations

from typing import Any

from services.trainer import metrics
from services.trainer.handlers.consuming import Consumed, Consuming, Outcome


class MeteredConsuming(Consuming):
    """Takes critiques in as its base does."""

    def consume(self, batch: Any) -> Consumed:
        """See the base."""
        consumed = super().consume(batch)
        outcomes = [Outcome.SET_ASIDE] if consumed.fault else [outcome for outcome, _ in consumed.critiques]
        for outcome in outcomes:
            metrics.CRITIQUES.labels(outcome).inc()
        return consumed

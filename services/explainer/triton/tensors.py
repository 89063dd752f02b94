"""Names on Triton's wire, and its bounds."""

from __future__ import annotations

from services.explainer.domain.attribution import METHODS

PIXEL_VALUES = "PIXEL_VALUES"
TARGET = "TARGET"
METHOD = "METHOD"
CONTRAST = "CONTRAST"
LOGITS = "LOGITS"
ATTRIBUTION = "ATTRIBUTION"
DELTA = "COMPLETENESS_DELTA"
FAITHFULNESS = "FAITHFULNESS"

METHOD_NAMES = tuple(METHODS)
UNFIT = "method unfit: "
"""Before what an error says when a method does not go with a model's architecture."""
MAX_BATCH = 64

"""How an answer came about."""

from __future__ import annotations

from services.common.vision.critique import Provenance
from services.lvlm.domain.prompts import PromptProfile
from services.lvlm.ports import Engine


def tell_provenance(engine: Engine, profile: PromptProfile, seed: int) -> Provenance:
    """What is needed to ask again."""
    return Provenance(engine=engine.name, model_id=engine.model_id, prompt_digest=profile.digest, seed=seed)

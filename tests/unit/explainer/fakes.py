"""Hand-written fakes of the explainer's ports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from services.common.vision.model_bundle import load_bundle
from services.explainer.ports import Inference, Question, ServedVersion


class InProcessClassifier:
    """Loads bundles and answers from them. `on_load` runs first and may raise; `shift` spoils the logits."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, int], torch.nn.Module] = {}
        self.on_load: Callable[[str], None] = lambda name: None
        self.shift = 0.0
        self.hold: asyncio.Event | None = None
        """Answers wait for it."""

    async def infer(
        self,
        served: ServedVersion,
        pixel_values: np.ndarray,
        timeout_s: float,
        question: Question | None = None,
    ) -> Inference:
        if self.hold:
            await self.hold.wait()
        with torch.inference_mode():
            model = self._loaded[served.name, served.version]
            logits = model(pixel_values=torch.from_numpy(pixel_values)).logits.numpy()
        return Inference(logits + self.shift)

    async def is_ready(self, name: str, version: int) -> bool:
        return (name, version) in self._loaded

    async def loaded(self) -> list[tuple[str, int]]:
        return list(self._loaded)

    async def load(self, served: ServedVersion, bundle: Path) -> None:
        self.on_load(served.name)
        self._loaded[served.name, served.version] = load_bundle(bundle).model

    async def unload(self, name: str, version: int) -> None:
        self._loaded.pop((name, version), None)

"""Model `net` with versions a (1) and b (2, the champion) on a real repository, and what shadows are set and compared with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from services.common.runtime.audit_log import AuditEvent, AuditLog
from services.common.runtime.folder_store import FolderStore
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.handlers.announcing import Announcing
from services.explainer.handlers.budget import Budget
from services.explainer.handlers.explaining import Explaining, Prediction
from services.explainer.handlers.publishing import Publishing
from services.explainer.handlers.rolling_back import RollingBack
from services.explainer.handlers.setting_shadow import SettingShadow
from services.explainer.handlers.shadowing import Shadowing, ShadowOptions
from services.explainer.handlers.verifying import Verifying
from services.explainer.handlers.versions import LiveVersions
from services.explainer.ports import Inference, ServedVersion
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle

SIDE = 6
SEEDS = {"a": 8, "b": 24, "c": 28}
"""Of nets that say both classes of random pictures, and not of the same ones."""
PATIENCE_S = 10


class MeddledClassifier(InProcessClassifier):
    """What happens before a version answers is `before`'s."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[ServedVersion], Awaitable[None]] | None = None

    async def infer(self, served: ServedVersion, pixel_values: np.ndarray, *rest: object) -> Inference:
        if self.before:
            await self.before(served)
        return await super().infer(served, pixel_values, *rest)


class ShadowStage:
    """Bundles `a`, `b` and `c` in the store, the first two published."""

    def __init__(self, root: Path, share: float = 1.0, max_pixels: int = 10**6, timeout_s: float = PATIENCE_S) -> None:
        store = FolderStore(root / "store")
        self.digests = {name: write_bundle(root / "store" / name, seed) for name, seed in SEEDS.items()}
        self.root, self.audit_log = root, AuditLog(store)
        self.repository = FolderRepository(root / "models")
        self.classifier = MeddledClassifier()
        announcing = Announcing(self.audit_log, self.repository)
        self.versions = LiveVersions(self.repository)
        self.publishing = Publishing(
            self.classifier, self.repository, store, announcing, self.versions, Verifying(self.classifier, 5), 5
        )
        self.rolling_back = RollingBack(self.repository, self.publishing)
        self.setting = SettingShadow(self.classifier, self.repository, announcing, 5)
        self.draws: list[float] = []
        self.shadowing = Shadowing(
            self.classifier, self.repository, self.versions, ShadowOptions(share, max_pixels, timeout_s), self._draw
        )
        self.explaining = Explaining(self.classifier, self.versions, self.shadowing)

    async def publish(self, bundle: str, expected: int, as_shadow: bool = False, key: str = "") -> ServedVersion:
        return await self.publishing.publish("net", bundle, expected, key or f"key-{bundle}", "anna", as_shadow)

    async def predict(self, pictures: Sequence[np.ndarray], version: int = 0) -> list[Prediction]:
        async with asyncio.timeout(PATIENCE_S):
            _, predictions = await self.explaining.predict("net", version, "", pictures, Budget.of(PATIENCE_S))
        return predictions

    def events(self) -> list[AuditEvent]:
        return [self.audit_log.read(number) for number in range(1, self.audit_log.last_number() + 1)]

    def _draw(self) -> float:
        return self.draws.pop(0) if self.draws else 0.0


async def make_stage(root: Path, **options: float) -> ShadowStage:
    """A stage with its two versions published."""
    stage = ShadowStage(root, **options)
    for number, bundle in enumerate("ab"):
        await stage.publish(bundle, number)
    return stage


def draw_pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    """Pictures of the size that the model takes."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE), dtype=np.uint8))

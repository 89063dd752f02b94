"""What the use cases need from outside, in our words."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.common.runtime.errors import Unavailable
from services.common.vision.preprocessing import Preprocessor
from services.common.vision.problem_type import ProblemType


@dataclass(frozen=True)
class ServedVersion:
    """One version in the model repository."""

    name: str
    version: int
    digest: str
    labels: tuple[str, ...]
    preprocessor: Preprocessor
    provenance: dict[str, Any]
    publication_key: str
    problem_type: ProblemType = ProblemType.SINGLE_LABEL
    repeats_version: int = 0
    """The version whose weights a rollback served again as this one; 0 when it is none."""
    as_shadow: bool = False
    """Whether it was served as a shadow: it was verified and never was the champion."""


@dataclass(frozen=True)
class Publication:
    """How a version comes to be served: the `key` that names it, who asked, for a rollback why and which version it repeats, and whether as a shadow."""

    key: str
    caller: str = ""
    reason: str = ""
    repeats_version: int = 0
    as_shadow: bool = False


@dataclass(frozen=True)
class ShadowPointer:
    """A model's shadow; `version` 0 when it has none. `verified` are the versions that were served as shadows, `change_count` how often it was moved."""

    version: int = 0
    verified: tuple[int, ...] = ()
    change_count: int = 0

    def is_verified(self, version: int, champion: int) -> bool:
        """Whether a version was verified: all up to the champion were, of those above it the shadows; another is being published, or was cut off in that."""
        return version <= champion or version in self.verified

    def moved_to(self, version: int) -> ShadowPointer:
        """The pointer after a change."""
        return replace(self, version=version, change_count=self.change_count + 1)

    def moved_to_new(self, version: int) -> ShadowPointer:
        """The pointer after a version was added and verified as a shadow."""
        return replace(self.moved_to(version), verified=(*self.verified, version))


@dataclass(frozen=True)
class Question:
    """What to attribute, by which method: the evidence for class `target` (-1: the predicted one), against `contrast` (-1: none).

    What is asked `in_bulk` lets everything else go first.
    """

    method: str
    target: int = -1
    contrast: int = -1
    with_faithfulness: bool = False
    in_bulk: bool = False


@dataclass(frozen=True)
class Inference:
    """Answers to a batch: logits (batch, classes); when asked for, maps (batch, height, width), completeness deltas (batch,) and
    faithfulness (batch, 2), the areas of deletion and of insertion."""

    logits: np.ndarray
    maps: np.ndarray | None = None
    completeness_deltas: np.ndarray | None = None
    faithfulness: np.ndarray | None = None


class LoadLost(Unavailable):
    """The inference server is there, but the version's process died while it loaded, as when memory runs out: worth another try, but none that others wait for."""


class Classifier(Protocol):
    """The inference server."""

    async def infer(
        self,
        served: ServedVersion,
        pixel_values: np.ndarray,
        timeout_s: float,
        question: Question | None = None,
    ) -> Inference:
        """Logits, and maps when there is a `question`.

        Shapes: pixel_values (batch, channels, height, width) float32, any batch size.

        Raises
        ------
        InvalidInput
            At `method`, when the model's architecture lacks what the method reads.
        """

    async def is_ready(self, name: str, version: int) -> bool:
        """Whether the version is loaded and answers; False too when the server is away."""

    async def load(self, served: ServedVersion, bundle: Path) -> None:
        """Load one version from the folder of its bundle; nothing when it is loaded.

        Raises
        ------
        WrongState
            When the server refuses the version; trying again does not help.
        LoadLost, DeadlineExceeded
            When the version did not come to life, or not in time.
        Unavailable
            When the server is away.
        """

    async def loaded(self) -> list[tuple[str, int]]:
        """Name and number of every version that is loaded."""

    async def unload(self, name: str, version: int) -> None:
        """Let a version go; nothing when it is not loaded."""


class ModelRepository(Protocol):
    """What is to be served: bundles by model and version, with the champion pointer per model."""

    def names(self) -> list[str]:
        """Models, sorted."""

    def numbers(self, name: str) -> list[int]:
        """Numbers of a model's versions, ascending, those that can't be read too; none when there is no such model."""

    def version(self, name: str, number: int) -> ServedVersion | None:
        """One version; None when there is none under this number, or it can't be read."""

    def versions(self, name: str) -> list[ServedVersion]:
        """Versions of a model that can be read, oldest first."""

    def champion(self, name: str) -> int:
        """The champion's version; 0 when there is none."""

    def set_champion(self, name: str, version: int) -> None:
        """Move the pointer, atomically."""

    def shadow(self, name: str) -> ShadowPointer:
        """The model's shadow."""

    def set_shadow(self, name: str, pointer: ShadowPointer) -> None:
        """Move the pointer, atomically."""

    def highest(self, name: str) -> int:
        """The highest number that a version of the model ever had, the removed ones counted; 0 when there was none."""

    def bundle(self, name: str, version: int) -> Path:
        """The folder of a version's bundle."""

    def add_version(
        self, name: str, bundle: Path, publication_key: str, repeats_version: int = 0, as_shadow: bool = False
    ) -> ServedVersion:
        """Copy a bundle in as the next version, all of it or nothing. No number is used twice, removed ones neither."""

    def remove_version(self, name: str, version: int) -> None:
        """Take a version out that was added and did not pass its checks."""

    def publishing(self, name: str, timeout_s: float) -> AbstractAsyncContextManager[None]:
        """One publisher at a time per model, over all processes."""

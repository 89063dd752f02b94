"""A picture and what covers each of its pixels."""

from dataclasses import dataclass

import numpy as np

from services.lvlm.nano import things


@dataclass(frozen=True)
class Scene:
    """A picture and, per pixel, the code of the thing that covers it.

    Shapes: picture (side, side) or (side, side, 3) uint8; cover (side, side) uint8, codes of `things`.
    """

    picture: np.ndarray
    cover: np.ndarray

    @property
    def seen(self) -> list[int]:
        """The things in the picture, by code; the ground is not a thing seen."""
        return [int(code) for code in np.unique(self.cover) if code not in things.GROUNDS]

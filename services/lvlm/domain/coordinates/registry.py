"""The families by the name that a prompt profile or LVLM_COORDINATES gives."""

from __future__ import annotations

from collections.abc import Mapping

from services.lvlm.domain.coordinates.family import CoordinateFamily
from services.lvlm.domain.coordinates.florence2 import Florence2
from services.lvlm.domain.coordinates.gemini import Gemini
from services.lvlm.domain.coordinates.internvl import InternVl
from services.lvlm.domain.coordinates.nano import Nano
from services.lvlm.domain.coordinates.paligemma import PaliGemma
from services.lvlm.domain.coordinates.qwen2_5_vl import Qwen25Vl
from services.lvlm.domain.coordinates.qwen3_vl import Qwen3Vl

FAMILIES: Mapping[str, CoordinateFamily] = {
    "qwen2_5_vl": Qwen25Vl(),
    "qwen3_vl": Qwen3Vl(),
    "nano": Nano(),
    "internvl": InternVl(),
    "gemini": Gemini(),
    "paligemma": PaliGemma(),
    "florence2": Florence2(),
}
DEFAULT_FAMILY = "qwen3_vl"


def find_family(name: str) -> CoordinateFamily:
    """The family of that name; `ValueError` when there is none."""
    if name not in FAMILIES:
        raise ValueError(f"coordinates: no family '{name}'; there are {', '.join(FAMILIES)} (see LVLM_COORDINATES)")
    return FAMILIES[name]

"""The embedded `nano`: as Qwen3-VL, and the bare word `unclear` for a phrase that it does not know.

It has no schema: that word is no JSON, and a nano that is held to JSON could only say "absent" in its place.
"""

from __future__ import annotations

from services.lvlm.domain.coordinates.qwen3_vl import Qwen3Vl


class Nano(Qwen3Vl):
    """See the module."""

    schema = None

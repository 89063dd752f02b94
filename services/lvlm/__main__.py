"""Run the LVLM service: python -m services.lvlm, settings from LVLM_*."""

from __future__ import annotations

import asyncio

from services.common.runtime.logging import set_up_logging
from services.lvlm.bootstrap import run
from services.lvlm.settings import LvlmSettings


def main() -> None:
    """Read the settings and serve."""
    set_up_logging()
    asyncio.run(run(LvlmSettings()))


if __name__ == "__main__":
    main()

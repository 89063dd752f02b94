"""Run the explainer: python -m services.explainer, settings from EXPLAINER_*."""

from __future__ import annotations

import asyncio

from services.common.runtime.logging import set_up_logging
from services.explainer.bootstrap import run
from services.explainer.settings import ExplainerSettings


def main() -> None:
    """Read the settings and serve."""
    set_up_logging()
    asyncio.run(run(ExplainerSettings()))


if __name__ == "__main__":
    main()

"""Run the explainer: python -m services.explainer, settings from EXPLAINER_*."""

from __future__ import annotations

import asyncio

from services.common.runtime.early_end import end_when_told
from services.common.runtime.logging import set_up_logging
from services.explainer.settings import ExplainerSettings


def main() -> None:
    """Read the settings and serve."""
    end_when_told()
    set_up_logging()
    settings = ExplainerSettings()
    # Here and not above: this brings torch along, seconds in which a pod may be told to go.
    from services.explainer.bootstrap import run

    asyncio.run(run(settings))


if __name__ == "__main__":
    main()

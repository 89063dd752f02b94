"""Run the trainer: python -m services.trainer api|worker, settings from TRAINER_*."""

from __future__ import annotations

import argparse
import asyncio

from services.common.runtime.early_end import end_when_told
from services.common.runtime.logging import set_up_logging
from services.trainer.settings import TrainerSettings


def main() -> None:
    """Read the settings and run the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("api", "worker"))
    part = parser.parse_args().part
    end_when_told()
    set_up_logging()
    settings = TrainerSettings()
    # Here and not above: this takes a while, in which a pod may be told to go.
    from services.trainer.bootstrap import run_api, run_worker

    if part == "api":
        asyncio.run(run_api(settings))
    else:
        run_worker(settings)


if __name__ == "__main__":
    main()

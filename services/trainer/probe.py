"""A worker's probe: python -m services.trainer.probe, 0 while it takes messages or can't because the broker is away. Settings from TRAINER_*, as the worker's."""

from __future__ import annotations

import sys

from services.trainer.adapters.pulse import is_deaf
from services.trainer.settings import TrainerSettings


def main() -> None:
    """Look at the pulse of the worker that has the same settings."""
    settings = TrainerSettings()
    if settings.worker_pulse is None:
        sys.exit("TRAINER_WORKER_PULSE: not set; expected the file that the worker touches")
    sys.exit(1 if is_deaf(settings.worker_pulse, settings.read_broker()) else 0)


if __name__ == "__main__":
    main()

"""A worker's probe: python -m services.trainer.probe, 0 while it takes messages or can't because the broker is away. Settings from TRAINER_*, as the worker's."""

from __future__ import annotations

import os
import signal
import sys

from plumbline.fresh_files import UnusableFile
from services.trainer.adapters.pulse import is_deaf
from services.trainer.settings import TrainerSettings

_LONGEST_S = 8
"""Shorter than kubelet waits: a broker whose name is not resolved, or whose addresses all keep silent, is away."""


def main() -> None:
    """Look at the pulse of the worker that has the same settings."""
    settings = TrainerSettings()
    if settings.worker_pulse is None:
        sys.exit("TRAINER_WORKER_PULSE: not set; expected the file that the worker touches")
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.alarm(_LONGEST_S)
    try:
        sys.exit(1 if is_deaf(settings.worker_pulse, settings.read_broker()) else 0)
    except UnusableFile as error:
        # A secret that is just being exchanged: the worker may have read it before.
        sys.stderr.write(f"{error}\n")


if __name__ == "__main__":
    main()

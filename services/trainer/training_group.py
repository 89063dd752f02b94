"""Training as several processes: the same training process as often as asked for, under torch's elastic launcher.

Run by the worker in the training process's place: python -m services.trainer.training_group --processes N, and the rest as there. The processes are a
team (`domain/team`); the leading one prints the lines that a training process prints, and each may print what it fell over. When one dies the others are ended and
all start anew from the job's last checkpoint, twice at most; then this process ends as the one did that died. On SIGTERM, or when its worker has died,
it has them end with a checkpoint. When it is killed the system kills them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import uuid
from typing import NoReturn

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from services.common.runtime.logging import set_up_logging
from services.common.runtime.parent import when_parent_ends

RESTART_COUNT = 2
_RENDEZVOUS_S = 60


def main() -> None:
    """Run the processes until all have ended."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--processes", type=int, required=True)
    parser.add_argument("--parent", type=int, default=os.getppid())
    arguments, training = parser.parse_known_args()
    set_up_logging()
    when_parent_ends(arguments.parent, lambda: os.kill(os.getpid(), signal.SIGTERM))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=arguments.processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        rdzv_configs={"timeout": _RENDEZVOUS_S},
        # The host's name need not be known to itself.
        local_addr="localhost",
        max_restarts=RESTART_COUNT,
        logs_specs=DefaultLogsSpecs(os.devnull),
    )
    command = ["-m", "services.trainer.training_process", *training, "--parent", str(os.getpid())]
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException as error:
        _die_of(error.sigval)
    except ChildFailedError as error:
        end_as([failure.exitcode for failure in error.failures.values()])


def end_as(statuses: list[int]) -> NoReturn:
    """End like the process that the others were ended for: those have the launcher's SIGTERM, or lost their connection to it."""
    signals = {-status for status in statuses if status < 0} - {signal.SIGTERM}
    if signals:
        _die_of(signal.Signals(signals.pop()))
    sys.exit(max(1, *statuses))


def _die_of(number: signal.Signals) -> NoReturn:
    with contextlib.suppress(OSError):  # SIGKILL can't be handled otherwise anyway
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    raise SystemExit(1)  # where the signal is held back


if __name__ == "__main__":
    main()

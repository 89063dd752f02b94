"""Teams of real processes for a test: forked from a server that has loaded torch, and joined as under the launcher."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch import distributed

from services.trainer.adapters.process_group import join_group

ANSWERED_S = 60.0
_JOINED = b"joined"
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.integration.trainer.teams", "services.trainer.domain.alignment"])

Work = Callable[..., Any]


class RunningTeam:
    """`work(team, *arguments)` in `size` processes; both must be picklable, and `work` is found by its module."""

    def __init__(self, size: int, work: Work, *arguments: Any) -> None:
        self._store = distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        asked = pickle.dumps((work, arguments))  # not by torch's way, which leaves tensors where they are made
        self._ends: list[Connection] = []
        self.processes: list[BaseProcess] = []
        for rank in range(size):
            here, there = _CONTEXT.Pipe(duplex=False)
            place = {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_PORT": str(self._store.port)}
            process = _CONTEXT.Process(target=_work, args=(place, there, asked), daemon=True)
            process.start()
            there.close()
            self._ends.append(here)
            self.processes.append(process)

        # All that each of them sends at first.
        assert [self._receive(rank) for rank in range(size)] == [_JOINED] * size

    def results(self) -> list[Any]:
        """What the processes that were not killed return or raise, in the order of their ranks."""
        living = [
            rank for rank, process in enumerate(self.processes) if process.exitcode is None or not process.exitcode < 0
        ]
        return [pickle.loads(self._receive(rank)) for rank in living]

    def kill(self, rank: int) -> None:
        """Kill a process, and wait until it has ended."""
        self.processes[rank].kill()
        self.processes[rank].join(ANSWERED_S)

    def _receive(self, rank: int) -> bytes:
        assert wait([self._ends[rank]], ANSWERED_S), f"process {rank} says nothing"
        return self._ends[rank].recv_bytes()


def _work(place: dict[str, str], end: Connection, asked: bytes) -> None:
    torch.set_num_threads(1)
    launched = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    os.environ |= place | launched | {"MASTER_ADDR": "localhost"}
    work, arguments = pickle.loads(asked)
    with join_group() as team:
        end.send_bytes(_JOINED)
        try:
            result = work(team, *arguments)
        except Exception as error:
            result = error
        end.send_bytes(pickle.dumps(result))

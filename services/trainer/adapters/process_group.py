"""The `Team` of a training on several processes, over torch's process group: gloo for what is on the CPU, NCCL for what is on GPUs."""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

from services.trainer.domain.team import TeamLost

T = TypeVar("T")

SILENCE_S = 600.0
"""How long the others may take for what only one of them does, as to measure a model or to write a checkpoint, seconds."""
_LEADER = 0


@contextlib.contextmanager
def join_group(device: str = "cpu") -> Iterator[ProcessGroup]:
    """Join the group that the variables of torch's launcher name, and leave it after the block. Raises: TeamLost.

    `device` is cpu or cuda; of GPUs each process takes its own, the one with its number on the machine.
    """
    if device == "cuda":
        torch.cuda.set_device(distributed.get_node_local_rank())
    timeout = timedelta(seconds=SILENCE_S)
    with _noticing_loss():
        store, rank, size = next(distributed.rendezvous("env://", timeout=timeout))
        # The launcher keeps one store for all its attempts (torch 2.13), and the addresses of those that died would be taken for ours.
        store = distributed.PrefixStore(f"attempt-{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield ProcessGroup(rank, size)
    finally:
        distributed.destroy_process_group()


class ProcessGroup:
    """`Team` in the group that this process has joined."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank = rank
        self.size = size
        self.leads = rank == _LEADER

    def part(self, count: int) -> slice:
        """See the protocol."""
        return slice(self._rank * count // self.size, (self._rank + 1) * count // self.size)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """See the protocol. In one message, and summed once for all: the sum's rounding is the same in every process."""
        tensors = list(tensors)
        total = torch.cat([tensor.flatten() for tensor in tensors])
        with _noticing_loss():
            distributed.all_reduce(total)
        for tensor, part in zip(tensors, total.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def is_any(self, is_so: bool) -> bool:
        """See the protocol."""
        flag = torch.tensor(int(is_so))
        with _noticing_loss():
            distributed.all_reduce(flag, distributed.ReduceOp.MAX)
        return bool(flag)

    def agree(self, make: Callable[[], T]) -> T:
        """See the protocol."""
        made = [make() if self.leads else None]
        with _noticing_loss():
            distributed.broadcast_object_list(made, _LEADER)
        return made[0]


@contextlib.contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except (
        RuntimeError,
        pickle.UnpicklingError,
    ) as error:  # what torch makes of a connection that broke or stayed silent
        raise TeamLost(f"another process of the training is gone or silent: {type(error).__name__}") from error

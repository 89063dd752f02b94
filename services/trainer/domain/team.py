"""The processes that train one model together: all draw the same batches, each works on its part of them, and what they come to is added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class TeamLost(Exception):
    """Another process of the team is gone or silent: nothing that this one goes on to do would count."""


class Team(Protocol):
    """A process's place in its team. All of them must make the same calls in the same order.

    size: how many processes there are. leads: whether it is this one that measures, decides, keeps and tells.
    """

    size: int
    leads: bool

    def part(self, count: int) -> slice:
        """The rows of a batch of `count` that are this process's; the parts of all processes are the batch, in order, alike in size but for one row."""

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Put the sum over all processes into each tensor, the same bits everywhere. Raises: TeamLost."""

    def is_any(self, is_so: bool) -> bool:
        """Whether any process says so. Raises: TeamLost."""

    def agree(self, make: Callable[[], T]) -> T:
        """What the leading process makes; the others wait for it. Raises: TeamLost, and in the leading process what `make` does."""


class Alone:
    """The team of one process."""

    size = 1
    leads = True

    def part(self, count: int) -> slice:
        """See the protocol."""
        return slice(0, count)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """See the protocol."""

    def is_any(self, is_so: bool) -> bool:
        """See the protocol."""
        return is_so

    def agree(self, make: Callable[[], T]) -> T:
        """See the protocol."""
        return make()


ALONE = Alone()

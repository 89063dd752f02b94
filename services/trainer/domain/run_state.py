"""The state of a fine-tuning between two steps: what it needs to go on as if it had never stopped."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import PreTrainedModel


@dataclass(frozen=True)
class RunState:
    """A fine-tuning after `step` steps.

    weights: the model's state by name. moments: Adam's state by parameter number, then name; empty before the first step. schedule: where the learning
    rate stands, plain values. draws: the generator that draws batches, (bytes,) uint8. Its tensors are its own.
    """

    step: int
    weights: dict[str, torch.Tensor]
    moments: dict[int, dict[str, torch.Tensor]]
    schedule: dict[str, Any]
    draws: torch.Tensor


@dataclass(frozen=True)
class Run:
    """The parts of a fine-tuning that a step changes."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    generator: torch.Generator

    def save(self, step: int) -> RunState:
        """The state after `step` steps."""
        return RunState(
            step,
            copy_weights(self.model),
            copy.deepcopy(self.optimizer.state_dict()["state"]),
            self.schedule.state_dict(),
            self.generator.get_state(),
        )

    def restore(self, state: RunState) -> None:
        """Put the parts where `state` has them; `state` stays as it is."""
        self.model.load_state_dict(state.weights)
        self.schedule.load_state_dict(state.schedule)
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": copy.deepcopy(state.moments), "param_groups": groups})
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self.generator.set_state(state.draws)


def copy_weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The model's state by name, in tensors of its own, contiguous."""
    return {
        name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in model.state_dict().items()
    }

"""Fine-tuning in teams of real processes, which come to what one process comes to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification

from services.trainer.adapters.process_group import ProcessGroup
from services.trainer.domain.fine_tuning import Recipe, Setting, Snapshot, fine_tune
from services.trainer.domain.job import Loss
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.run_state import RunState
from services.trainer.domain.team import ALONE, Team, TeamLost
from tests.integration.trainer.teams import RunningTeam
from tests.unit.trainer.shortcut_set import CLASSES, make_pictures, take, train_shortcut

Weights = dict[str, torch.Tensor]

STEPS = 40
TOLERANCE = 2e-6
"""Of a weight, after `STEPS` steps that moved some by 0.06: rounding alone. Measured: 6e-8, an ulp or less; after the 1,300 steps of a job 1.2e-7."""
UNEVEN = Recipe(ordinary_count=13, critiqued_count=7, moved_count=21)
"""No team of two or three can share such a batch evenly."""


def _start(name: str) -> PreTrainedModel:
    if name == "mlp":
        return train_shortcut(make_pictures(300, seed=0))
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    net = ResNetForImageClassification(config)
    net.train()(pixel_values=make_pictures(64, seed=0).pixels)  # batch statistics of their own
    return net.eval()


def _fine_tune(
    team: Team, start: PreTrainedModel, recipe: Recipe, resume: RunState | None = None, until: int = STEPS
) -> tuple[Weights, RunState]:
    """The weights after `until` steps, and the state before the last of them."""
    torch.set_num_threads(1)
    pictures, states = make_pictures(300, seed=0), []
    snapshots: Iterator[Snapshot] = fine_tune(
        start,
        dataclasses.replace(pictures, masks=None),
        take(pictures, 60),
        recipe,
        Setting(3e-3, 1e-2),
        torch.full((CLASSES,), 1 / CLASSES),
        STEPS,
        seed=0,
        resume=resume,
        offer=lambda save: states.append(save()),
        team=team,
    )
    last = next(snapshot for snapshot in snapshots if snapshot.step >= until)
    return {name: value.clone() for name, value in last.model.state_dict().items()}, states[-1]


def _differ(first: Weights, second: Weights) -> float:
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize(("net", "size", "loss"), [("mlp", 3, loss) for loss in LOSSES] + [("resnet", 2, Loss.RRR)])
def test_a_team_comes_to_the_weights_of_one_process_also_where_a_batch_does_not_divide(net: str, size: int, loss: Loss):
    start, recipe = _start(net), dataclasses.replace(UNEVEN, loss=LOSSES[loss])
    team = RunningTeam(size, _fine_tune, start, recipe)
    alone, _ = _fine_tune(ALONE, start, recipe)
    first, *others = [weights for weights, _ in team.results()]
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)
    assert _differ(first, alone) < TOLERANCE
    assert _differ(alone, start.state_dict()) > 0.05


def test_a_fine_tuning_goes_on_in_another_number_of_processes():
    start = _start("mlp")
    (_, halfway), *_ = RunningTeam(2, _fine_tune, start, UNEVEN, None, STEPS // 2).results()
    ended_by_three = RunningTeam(3, _fine_tune, start, UNEVEN, halfway)
    alone, _ = _fine_tune(ALONE, start, UNEVEN)
    ended_by_one, _ = _fine_tune(ALONE, start, UNEVEN, halfway)
    assert halfway.step == STEPS // 2 - 1
    for weights in (ended_by_one, *(weights for weights, _ in ended_by_three.results())):
        assert _differ(weights, alone) < TOLERANCE


def test_a_team_is_refused_that_has_more_processes_than_a_batch_has_critiqued_pictures():
    with pytest.raises(ValueError, match="team: expected at most 7 processes"):
        _fine_tune(ProcessGroup(rank=0, size=8), _start("mlp"), UNEVEN)


def _ask(team: Team) -> tuple[str, bool, bool]:
    return team.agree(lambda: f"made by {team.leads}"), team.is_any(team.leads), team.is_any(False)


def test_a_team_goes_by_what_its_leading_process_makes_and_hears_any_of_them():
    assert RunningTeam(3, _ask).results() == [("made by True", True, False)] * 3


def _add_up_without_end(team: Team) -> None:
    while True:
        team.add_up([torch.ones(1)])


def test_a_process_notices_that_another_one_died():
    team = RunningTeam(2, _add_up_without_end)
    team.kill(1)
    (error,) = team.results()
    assert isinstance(error, TeamLost)

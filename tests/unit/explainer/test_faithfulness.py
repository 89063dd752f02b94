"""Deletion and insertion against curves worked out by hand."""

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from services.common.vision.problem_type import ProblemType
from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.faithfulness import STEP_COUNT, measure_faithfulness
from tests.unit.explainer.served_nets import pictures, small_cnn

EXACT = 1e-9  # float64


class Sums(nn.Module):
    """The first logit adds pixels up by their weight; the second is nought, the third far below both."""

    def __init__(self, weights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, pixel_values):
        sums = (pixel_values * self.weights).sum(dim=(1, 2, 3))
        return ImageClassifierOutput(logits=torch.stack([sums, 0 * sums, 0 * sums - 100], dim=1))


def area(curve: torch.Tensor) -> float:
    return float(torch.trapezoid(curve, dx=1 / (len(curve) - 1)))


@pytest.mark.parametrize(("height", "width"), [(4, 5), (3, 5), (10, 14)])
def test_areas_are_those_of_the_probability_as_pixels_go_and_come(height, width):
    count = height * width
    weights = (
        torch.randperm(count, generator=torch.Generator().manual_seed(0)).double().reshape(1, height, width) / count
    )
    inputs, baselines = torch.ones(1, 1, height, width).double(), torch.zeros(2, 1, height, width).double()
    ordered = weights.flatten().sort(descending=True).values
    # After step k those pixels have moved whose rank is below k of 20 parts.
    moved = torch.tensor([sum(20 * rank < step * count for rank in range(count)) for step in range(STEP_COUNT + 1)])
    gone = torch.cat([torch.zeros(1).double(), ordered.cumsum(dim=0)])[moved]
    expected = [area(torch.sigmoid(gone[-1] - gone)), area(torch.sigmoid(gone))]
    found = measure_faithfulness(Logits(Sums(weights)), inputs, torch.tensor([0]), baselines, weights)
    assert found[0].tolist() == pytest.approx(expected, abs=EXACT)


def test_map_that_is_right_beats_its_reverse_in_both():
    weights = pictures(1, 1, 6, 6, seed=5)[0] - 0.5
    inputs, baselines = pictures(1, 1, 6, 6) + 1, torch.zeros(2, 1, 6, 6).double()
    evidence = (weights * inputs)[:, 0]
    deletion, insertion = (
        measure_faithfulness(Logits(Sums(weights)), inputs, torch.tensor([0]), baselines, maps)[0]
        for maps in (evidence, -evidence)
    )
    assert deletion[0] < insertion[0]
    assert deletion[1] > insertion[1]


def test_with_a_contrast_only_two_classes_are_to_choose_from():
    weights, targets = torch.full((1, 4, 4), 0.25).double(), torch.tensor([1])
    inputs, baselines = torch.ones(1, 1, 4, 4).double(), torch.zeros(2, 1, 4, 4).double()
    maps = pictures(1, 1, 4, 4)[:, 0]
    against_none = measure_faithfulness(Logits(Sums(weights)), inputs, targets, baselines, maps)[0]
    against_least = measure_faithfulness(Logits(Sums(weights), contrast=2), inputs, targets, baselines, maps)[0]
    assert against_none.max() < 0.5
    assert against_least.min() > 1 - EXACT


def test_each_of_several_labels_has_the_probability_of_its_own_logit():
    weights = torch.full((1, 4, 4), 0.25).double()
    inputs, baselines = torch.ones(1, 1, 4, 4).double(), torch.zeros(2, 1, 4, 4).double()
    asked = (Logits(Sums(weights)), inputs, torch.tensor([1]), baselines, pictures(1, 1, 4, 4)[:, 0])
    areas = measure_faithfulness(*asked, ProblemType.MULTI_LABEL)[0]
    assert areas.tolist() == pytest.approx([0.5, 0.5], abs=EXACT)


def test_pixels_of_equal_evidence_move_row_by_row():
    weights = torch.tensor([[[8.0, 0.0], [0.0, 0.0]]]).double()
    inputs, baselines = torch.ones(2, 1, 2, 2).double(), torch.zeros(2, 1, 2, 2).double()
    maps = torch.stack([torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [1.0, 1.0]])]).double()
    first, last = measure_faithfulness(Logits(Sums(weights)), inputs, torch.tensor([0, 0]), baselines, maps)[:, 1]
    assert first > last


@pytest.mark.parametrize("rows", [1, 4])
def test_bound_holds_for_every_pass_and_changes_nothing(rows):
    net, inputs, baselines = small_cnn(), pictures(5, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    maps, targets, batches = pictures(5, 1, 8, 8, seed=9)[:, 0], torch.arange(5) % 4, []
    net.register_forward_pre_hook(lambda _, args, kwargs: batches.append(len(kwargs["pixel_values"])), with_kwargs=True)
    whole = measure_faithfulness(Logits(net), inputs, targets, baselines, maps)
    assert batches == [5 * 2 * (STEP_COUNT + 1)]
    batches.clear()
    split = measure_faithfulness(
        Logits(net, elements_in_flight=rows * inputs[0].numel()), inputs, targets, baselines, maps
    )
    assert max(batches) == rows
    assert sum(batches) == 5 * 2 * (STEP_COUNT + 1)
    assert torch.allclose(whole, split, atol=EXACT)

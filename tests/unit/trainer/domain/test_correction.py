"""The last layer loses the artefact's directions and nothing else."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification

from services.common.vision.nets import (
    MlpConfig,
    MlpForImageClassification,
    SmallCnnConfig,
    SmallCnnForImageClassification,
)
from services.trainer.domain.correction import correct_last_layer
from services.trainer.domain.evidence import predict
from services.trainer.domain.losses.mask_out import replace_masked
from services.trainer.domain.pictures import Pictures
from tests.unit.trainer.shortcut_set import CLASSES, SIDE, make_pictures, train_shortcut


def _mlp(*hidden_sizes: int) -> MlpForImageClassification:
    """No hidden size makes it linear: its features are the pixels."""
    torch.manual_seed(0)
    return MlpForImageClassification(MlpConfig(image_size=SIDE, hidden_sizes=hidden_sizes, num_labels=CLASSES)).double()


def _cnn() -> SmallCnnForImageClassification:
    torch.manual_seed(0)
    return SmallCnnForImageClassification(SmallCnnConfig(image_size=SIDE, widths=(4,), num_labels=CLASSES)).double()


def _resnet() -> ResNetForImageClassification:
    torch.manual_seed(0)
    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=CLASSES
    )
    return ResNetForImageClassification(config).double().eval()


def _pairs(seed: int = 0, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Random pictures with the same block in the corner, and without it."""
    generator = torch.Generator().manual_seed(seed)
    without = torch.rand((count, 1, SIDE, SIDE), generator=generator, dtype=torch.float64)
    without[:, :, :2, :2] = 0.5
    with_artefact = without.clone()
    with_artefact[:, :, :2, :2] += torch.tensor([[1.0, -2.0], [0.5, 1.5]], dtype=torch.float64)
    return with_artefact, without


def _logits(model: PreTrainedModel, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=pixels).logits


def _moved(model: PreTrainedModel, pairs: tuple[torch.Tensor, torch.Tensor]) -> float:
    """Mean size of what the artefact does to the logits."""
    return float((_logits(model, pairs[0]) - _logits(model, pairs[1])).abs().mean())


def test_one_artefact_of_one_direction_moves_no_logit_of_a_linear_model_any_more():
    model = _mlp()
    corrected = correct_last_layer(model, *_pairs(), rank=1)
    unseen = _pairs(seed=1)
    assert _moved(model, unseen) > 0.1
    assert _moved(corrected, unseen) < 1e-12


def test_what_has_nothing_of_the_artefact_is_told_apart_as_before():
    model, (with_artefact, without) = _mlp(), _pairs()
    corrected = correct_last_layer(model, with_artefact, without, rank=1)
    first, second = without[:2]
    difference = first - second  # 0 under the block
    assert difference.abs().sum() > 1
    before, after = (_logits(net, first[None]) - _logits(net, second[None]) for net in (model, corrected))
    assert torch.allclose(before, after, atol=1e-12)


def test_mean_logits_of_the_pictures_without_the_artefact_stay():
    for model in (_mlp(), _mlp(16), _cnn(), _resnet()):
        corrected = correct_last_layer(model, *(pairs := _pairs()), rank=3)
        assert torch.allclose(_logits(model, pairs[1]).mean(0), _logits(corrected, pairs[1]).mean(0), atol=1e-12)


@pytest.mark.parametrize("weight", [0.3, 10.0, math.inf])
def test_the_new_weights_are_those_that_change_the_clean_logits_least_for_the_artefact_they_still_read(weight: float):
    # A second way: the same least squares over rows, solved by lstsq. The features of a linear model are its pixels.
    model = _mlp()
    generator = torch.Generator().manual_seed(5)
    clean, artefacts = (
        torch.randn((count, 1, SIDE, SIDE), generator=generator, dtype=torch.float64) for count in (400, 2)
    )
    corrected = correct_last_layer(model, clean + artefacts.repeat(200, 1, 1, 1), clean, rank=2, weight=weight)
    before = model.layers[-1].weight.detach()
    centred = (clean - clean.mean(dim=0)).flatten(1) / 20
    centred = torch.cat((centred, math.sqrt(1e-3 * centred.var(dim=0, correction=0).mean() * 400) * torch.eye(SIDE**2)))
    rows = artefacts.flatten(1) * math.sqrt(min(weight, 1e8) / 2)
    targets = torch.cat((centred @ before.T, torch.zeros((2, CLASSES))))
    expected = torch.linalg.lstsq(torch.cat((centred, rows)), targets).solution.T
    assert torch.allclose(corrected.layers[-1].weight, expected, atol=1e-6)


@pytest.mark.parametrize("make", [lambda: _mlp(16), _cnn, _resnet], ids=["mlp", "cnn", "resnet"])
def test_sensitivity_of_a_deep_model_falls_with_the_rank(make):
    model, unseen = make(), _pairs(seed=1)
    sensitivities = [_moved(correct_last_layer(model, *_pairs(), rank=rank), unseen) for rank in (1, 4)]
    assert _moved(model, unseen) > sensitivities[0] > sensitivities[1]


def test_a_shortcut_model_is_right_more_often_where_the_shortcut_lies():
    train, lying, honest = make_pictures(300, 0), make_pictures(300, 2, is_lying=True), make_pictures(300, 3)
    model = train_shortcut(train)
    replaced = replace_masked(train, torch.Generator().manual_seed(0))
    corrected = correct_last_layer(model, train.pixels, replaced, rank=2, weight=10.0)
    assert _accuracy(corrected, lying) > _accuracy(model, lying) + 0.3
    assert _accuracy(corrected, honest) > 0.9


def _accuracy(model: PreTrainedModel, pictures: Pictures) -> float:
    return float((predict(model, pictures.pixels) == pictures.labels).double().mean())


def test_less_weight_leaves_more_of_the_artefact_and_more_of_the_model():
    model, pairs = _mlp(16), _pairs()
    corrected = [correct_last_layer(model, *pairs, rank=2, weight=weight) for weight in (0.1, 1.0, math.inf)]
    artefact = [_moved(net, pairs) for net in (model, *corrected)]
    change = [float((_logits(net, pairs[1]) - _logits(model, pairs[1])).square().mean()) for net in corrected]
    assert artefact == sorted(artefact, reverse=True)
    assert change == sorted(change)


@pytest.mark.parametrize("make", [lambda: _mlp(16), _cnn, _resnet], ids=["mlp", "cnn", "resnet"])
def test_the_model_that_came_is_left_alone_and_only_the_last_layer_differs(make):
    model = make()
    before = copy.deepcopy(model.state_dict())
    after = correct_last_layer(model, *_pairs(), rank=2).state_dict()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    changed = {name for name, value in after.items() if not torch.equal(before[name], value)}
    assert changed == set(list(before)[-2:])
    assert not any(module._forward_hooks for module in model.modules())


def test_directions_in_which_nothing_differs_are_left_alone():
    model, (with_artefact, without) = _mlp(), _pairs()
    one, all_directions = (correct_last_layer(model, with_artefact, without, rank=rank) for rank in (1, 64))
    assert torch.allclose(one.layers[-1].weight, all_directions.layers[-1].weight, atol=1e-12)
    untouched = correct_last_layer(model, without, without, rank=3)
    assert torch.equal(untouched.layers[-1].weight, model.layers[-1].weight)


def test_more_pictures_than_one_forward_pass_takes_are_corrected_by_all_of_them():
    once, often = _pairs(), tuple(part.repeat(10, 1, 1, 1) for part in _pairs())
    weights = [correct_last_layer(_mlp(16), *pairs, rank=2).layers[-1].weight for pairs in (once, often)]
    assert torch.allclose(*weights, atol=1e-10)


def _with_head(*head: nn.Module) -> MlpForImageClassification:
    model = _mlp(16)
    model.layers = nn.Sequential(*list(model.layers)[:-1], *head).double()
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_with_head(nn.Unflatten(1, (16, 1, 1)), nn.Conv2d(16, CLASSES, 1), nn.Flatten()), r"last nn\.Linear"),
        (_with_head(nn.Linear(16, CLASSES, bias=False)), "bias"),
        (_with_head(nn.Linear(16, CLASSES), nn.Tanh()), "logits"),
    ],
    ids=["convolution", "no bias", "more after it"],
)
def test_a_model_without_a_linear_last_layer_is_refused(model: PreTrainedModel, message: str):
    with pytest.raises(ValueError, match=message):
        correct_last_layer(model, *_pairs(), rank=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank"),
        ({"weight": 0.0}, "weight"),
        ({"without": torch.zeros((3, 1, SIDE, SIDE))}, "pairs"),
        ({"with_artefact": torch.zeros((0, 1, SIDE, SIDE)), "without": torch.zeros((0, 1, SIDE, SIDE))}, "pairs"),
    ],
    ids=["rank", "weight", "not as many", "none"],
)
def test_pictures_that_are_no_pairs_and_numbers_out_of_range_are_refused(change: dict, message: str):
    with_artefact, without = _pairs()
    with pytest.raises(ValueError, match=message):
        correct_last_layer(_mlp(), **{"with_artefact": with_artefact, "without": without, "rank": 1} | change)

"""Every attribution method against something that is known otherwise: a closed form, completeness, a second computation."""

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from services.common.vision.nets import (
    MlpConfig,
    MlpForImageClassification,
    SmallCnnConfig,
    SmallCnnForImageClassification,
)
from services.explainer.domain.attribution import METHODS, attribute
from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.deep_lift_shap import DeepLiftShap

EXACT = 1e-9  # float64
STEPS_TOLERANCE = 0.02  # 64 midpoints on a piecewise linear path, relative to the logit's change


class Linear(nn.Module):
    """Logits W x + b: every method's answer is known."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(2 * 5 * 4, 3).double()

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.layer(pixel_values.flatten(1)))


def pictures(count: int, channels: int, height: int, width: int, seed: int = 1) -> torch.Tensor:
    return torch.rand(
        count, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def nets() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        MlpForImageClassification(MlpConfig(image_size=8, hidden_sizes=(12, 9), num_labels=4)).double().eval(),
        SmallCnnForImageClassification(SmallCnnConfig(image_size=8, widths=(4, 6), num_labels=4)).double().eval(),
    ]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_linear_model_gets_its_weights_times_the_way(name, seed):
    model, inputs, baselines = Linear(seed), pictures(3, 2, 5, 4), pictures(4, 2, 5, 4, seed=7)
    targets = torch.tensor([0, 2, 1])
    start = torch.zeros_like(baselines[0]) if name == "INPUT_X_GRADIENT" else baselines.mean(dim=0)
    weights = model.layer.weight[targets].reshape(3, 2, 5, 4)
    expected = (weights * (inputs - start)).sum(dim=1)
    result = attribute(METHODS[name], model, inputs, targets, baselines)
    assert torch.allclose(result.maps, expected, atol=EXACT)


@pytest.mark.parametrize("net", nets(), ids=["mlp", "cnn"])
def test_deep_lift_shap_is_complete(net):
    inputs, baselines = pictures(5, 1, 8, 8), pictures(6, 1, 8, 8, seed=3)
    result = attribute(METHODS["DEEP_LIFT_SHAP"], net, inputs, torch.tensor([0, 1, 2, 3, 0]), baselines)
    assert result.completeness_delta.max() < EXACT


@pytest.mark.parametrize("net", nets(), ids=["mlp", "cnn"])
def test_integrated_gradients_are_complete_within_their_steps(net):
    inputs, baselines, targets = pictures(5, 1, 8, 8), pictures(6, 1, 8, 8, seed=3), torch.tensor([0, 1, 2, 3, 0])
    result = attribute(METHODS["INTEGRATED_GRADIENTS"], net, inputs, targets, baselines)
    assert (result.completeness_delta / result.maps.abs().sum(dim=(1, 2))).max() < STEPS_TOLERANCE


@pytest.mark.parametrize("name", METHODS)
def test_picture_gets_the_same_map_alone_and_in_a_batch(name):
    net, inputs, baselines = nets()[1], pictures(6, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    targets = torch.arange(6) % 4
    together = attribute(METHODS[name], net, inputs, targets, baselines).maps
    alone = attribute(METHODS[name], net, inputs[4:5], targets[4:5], baselines).maps
    assert torch.allclose(together[4], alone[0], atol=EXACT)


@pytest.mark.parametrize("name", METHODS)
def test_pictures_in_parts_get_the_same_maps_as_in_one_pass(name):
    net, inputs, baselines = nets()[1], pictures(6, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    targets = torch.arange(6) % 4
    whole = attribute(METHODS[name], net, inputs, targets, baselines)
    split = attribute(METHODS[name], net, inputs, targets, baselines, elements_in_flight=4 * inputs[0].numel())
    assert torch.allclose(whole.maps, split.maps, atol=EXACT)
    assert torch.allclose(whole.completeness_delta, split.completeness_delta, atol=EXACT)


@pytest.mark.parametrize("pairs", [1, 3, 12])
def test_deep_lift_shap_is_the_same_whatever_is_in_flight(pairs):
    net, inputs, baselines = nets()[1], pictures(4, 1, 8, 8), pictures(7, 1, 8, 8, seed=3)
    targets = torch.arange(4)
    whole = attribute(DeepLiftShap(), net, inputs, targets, baselines)
    split = attribute(DeepLiftShap(pairs * inputs[0].numel()), net, inputs, targets, baselines)
    assert torch.allclose(whole.maps, split.maps, atol=EXACT)
    assert torch.allclose(whole.completeness_delta, split.completeness_delta, atol=EXACT)


@pytest.mark.parametrize("name", METHODS)
def test_other_weights_give_another_map(name):
    inputs, baselines, targets = pictures(2, 2, 5, 4), pictures(3, 2, 5, 4, seed=3), torch.tensor([0, 1])
    one, other = (attribute(METHODS[name], Linear(seed), inputs, targets, baselines).maps for seed in (0, 1))
    assert not torch.allclose(one, other, atol=0.01)


def hooks(net: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
        for module in net.modules()
    )


@pytest.mark.parametrize("name", METHODS)
def test_no_hook_stays_after_success_or_a_bad_target(name):
    net, inputs, baselines = nets()[0], pictures(2, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    attribute(METHODS[name], net, inputs, torch.tensor([0, 1]), baselines)
    with pytest.raises((IndexError, RuntimeError, AssertionError)):
        attribute(METHODS[name], net, inputs, torch.tensor([0, 99]), baselines)
    assert hooks(net) == 0


@pytest.mark.parametrize("name", METHODS)
def test_parameters_receive_no_gradient(name):
    net = nets()[0]
    attribute(METHODS[name], net, pictures(2, 1, 8, 8), torch.tensor([0, 1]), pictures(3, 1, 8, 8, seed=3))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_deep_lift_shap_equals_the_mean_of_single_baselines():
    net, inputs, baselines = nets()[0], pictures(2, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    targets, method = torch.tensor([2, 3]), METHODS["DEEP_LIFT_SHAP"]
    mean = torch.stack([method(Logits(net), inputs, targets, baseline[None])[0] for baseline in baselines]).mean(dim=0)
    assert torch.allclose(method(Logits(net), inputs, targets, baselines)[0], mean, atol=EXACT)

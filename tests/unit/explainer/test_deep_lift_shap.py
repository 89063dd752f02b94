"""DeepLIFT SHAP against completeness, captum and a max pooling worked out by hand."""

import threading
import warnings

import captum.attr
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, ResNetConfig, ResNetForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

from services.common.vision.nets import (
    MlpConfig,
    MlpForImageClassification,
    SmallCnnConfig,
    SmallCnnForImageClassification,
)
from services.explainer.domain.attribution import attribute
from services.explainer.domain.attribution.base import Attribution, Logits
from services.explainer.domain.attribution.deep_lift_shap import DeepLiftShap
from services.explainer.domain.attribution.rescale import ACTIVATIONS, References, RescaleRule

EXACT = 1e-9  # float64
ROUNDING = 1e-4  # float32, relative to the greatest change of a logit


class Classifier(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers).double()

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.layers(pixel_values))


class ActivationUsedTwice(nn.Module):
    """Adds what an activation makes to its own input, then uses the activation again."""

    def __init__(self, activation) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(12, 8).double(), nn.Linear(8, 3).double()
        self.activation = activation

    def forward(self, pixel_values):
        hidden = 3 * self.first(pixel_values.flatten(1))
        return ImageClassifierOutput(logits=self.last(self.activation(hidden + self.activation(hidden))))


def pictures(count: int, channels: int, side: int, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, side, side, generator=generator, dtype=dtype)


def resnet(seed: int, layer_type: str, steps: int) -> PreTrainedModel:
    """A stem with ReLU and 3×3 max pooling in steps of two, four stages; trained on noise, so that no BatchNorm is as it began."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1], layer_type=layer_type, num_labels=3
    )
    model = ResNetForImageClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(steps):
        model(pixel_values=torch.rand(16, 3, 32, 32), labels=torch.randint(3, (16,))).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def net_without_overlap() -> nn.Module:
    """Max pooling as captum has it right: no window meets another, and no ReLU is next to it."""
    torch.manual_seed(0)
    return Classifier(
        nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(36, 4)
    )


def nets() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        MlpForImageClassification(MlpConfig(image_size=8, hidden_sizes=(12, 9), num_labels=4)).double().eval(),
        SmallCnnForImageClassification(SmallCnnConfig(image_size=8, widths=(4, 6), num_labels=4)).double().eval(),
        net_without_overlap(),
    ]


def explain(net: nn.Module, inputs: torch.Tensor, targets: torch.Tensor, baselines: torch.Tensor) -> Attribution:
    return attribute(DeepLiftShap(), net, inputs, targets, baselines)


@pytest.mark.parametrize("steps", [0, 5])
@pytest.mark.parametrize("layer_type", ["basic", "bottleneck"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_resnet_with_max_pooling_gets_complete_maps(seed, layer_type, steps):
    net = resnet(seed, layer_type, steps)
    inputs, baselines = (pictures(4, 3, 32, seed, torch.float32) for seed in (1, 2))
    inputs[:, :, :9] = baselines[0, :, :9]  # where nothing changes
    targets = torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        changes = (net(inputs).logits - net(baselines).logits.mean(dim=0)).gather(1, targets[:, None]).squeeze(1)
    delta = explain(net, inputs, targets, baselines).completeness_delta
    assert delta.max() < ROUNDING * changes.abs().max()


def test_overlapping_windows_add_up_where_the_greater_maximum_is():
    net = Classifier(nn.MaxPool2d((1, 3), stride=(1, 2)), nn.Flatten(), nn.Linear(3, 1, bias=False))
    net.layers[-1].weight.data = torch.ones(1, 3, dtype=torch.float64)
    inputs = torch.tensor([1, 0, 5, 0, 2, 0, 0]).double().reshape(1, 1, 1, 7)
    baseline = torch.tensor([0, 3, 1, 0, 4, 6, 0]).double().reshape(1, 1, 1, 7)
    # Windows 0-2, 2-4, 4-6: from 3 to 5 and from 4 to 5, both at 2; from 6 at 5 to 2.
    expected = torch.tensor([[[0, 0, 2 + 1, 0, 0, -4, 0]]]).double()
    result = explain(net, inputs, torch.tensor([0]), baseline)
    assert torch.allclose(result.maps, expected, atol=EXACT)


@pytest.mark.parametrize("net", nets(), ids=["mlp", "average pooling", "max pooling without overlap"])
def test_maps_equal_captums(net):
    inputs, baselines, targets = pictures(5, 1, 8, 1), pictures(6, 1, 8, 3), torch.tensor([0, 1, 2, 3, 0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = captum.attr.DeepLiftShap(Logits(net)).attribute(inputs, baselines, target=targets).sum(dim=1)
    assert torch.allclose(explain(net, inputs, targets, baselines).maps, expected, atol=EXACT)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS, key=repr), ids=lambda function: function.__name__)
def test_activation_used_twice_and_beside_its_own_input_is_complete(activation):
    inputs, baselines = pictures(3, 3, 2, 1), pictures(4, 3, 2, 3)
    result = explain(ActivationUsedTwice(activation), inputs, torch.tensor([0, 1, 2]), baselines)
    assert result.completeness_delta.max() < EXACT


def test_activation_in_place_is_complete():
    torch.manual_seed(0)
    net = Classifier(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 3))
    result = explain(net, pictures(3, 3, 2, 1), torch.tensor([0, 1, 2]), pictures(4, 3, 2, 3))
    assert result.completeness_delta.max() < EXACT


def test_baselines_go_through_the_net_once_however_many_pictures_there_are():
    net, rows = nets()[1], []
    logits = Logits(net)
    net.register_forward_hook(lambda *call: rows.append(len(call[2].logits)))
    DeepLiftShap()(logits, pictures(5, 1, 8, 1), torch.tensor([0, 1, 2, 3, 0]), pictures(6, 1, 8, 3))
    assert rows == [6, 5 * 6]


def test_network_is_as_before_when_it_fails_on_its_way():
    net = Classifier(nn.Flatten(), nn.ReLU(), nn.Linear(13, 3))
    with pytest.raises(RuntimeError, match="shapes"):
        explain(net, pictures(2, 3, 2, 1), torch.tensor([0, 1]), pictures(2, 3, 2, 3))
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in net.modules())
    assert relu_gradient() == [1]


def test_other_threads_keep_their_gradients():
    found = []
    references = References()
    with torch.no_grad(), references:
        nn.functional.relu(torch.tensor([-1.0]))
    with RescaleRule(references, 1):
        thread = threading.Thread(target=lambda: found.append(relu_gradient()))
        thread.start()
        thread.join()
        ruled = relu_gradient()
    assert found == [[1]]
    assert ruled == [0.75]


def relu_gradient() -> list[float]:
    """Of an input at 3; with its reference at -1 the rescale rule would say 3/4."""
    inputs = torch.tensor([3.0], requires_grad=True)
    nn.functional.relu(inputs).sum().backward()
    return inputs.grad.tolist()

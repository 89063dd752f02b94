"""Every attribution method against something that is known otherwise: a closed form, completeness, a second computation."""

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from plumbline.explainer.v1 import explainer_service_pb2 as pb
from services.explainer.domain.attribution import METHODS, attribute
from services.explainer.domain.attribution.base import Logits, MethodUnfit
from tests.unit.explainer.served_nets import FAMILIES, SIDE_PX, hooks, mlp, pictures, small_cnn

EXACT = 1e-9  # float64
STEPS_TOLERANCE = 0.02  # 64 midpoints on a piecewise linear path, relative to the logit's change
NEED_A_GRID = ("GRAD_CAM", "LAYER_CAM")
TAKE_THE_WAY = tuple(name for name in METHODS if name not in (*NEED_A_GRID, "OCCLUSION"))


class Linear(nn.Module):
    """Logits W x + b: every method's answer is known."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = (2, 5, 4)) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.layer = nn.Linear(torch.Size(shape).numel(), 3).double()

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.layer(pixel_values.flatten(1)))

    def weights(self, targets):
        return self.layer.weight[targets].detach().unflatten(1, self.shape)


class Averaged(nn.Module):
    """One map per class, what one pixel in four says, averaged: the evidence of each place is known."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.maps = nn.Sequential(nn.Conv2d(2, 5, 1, stride=2), nn.ReLU(inplace=True))
        self.head = nn.Linear(5, 3)
        self.double()

    def forward(self, pixel_values):
        return ImageClassifierOutput(logits=self.head(self.maps(pixel_values).mean(dim=(2, 3))))


class Failing(nn.Module):
    """A CNN that raises from its pass number `passes` on."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.net, self.left = small_cnn(), passes

    def forward(self, pixel_values):
        self.left -= 1
        if self.left < 1:
            self.net.layers[3](pixel_values)  # another count of channels
        return self.net(pixel_values)


class Counting(nn.Module):
    """Notes how many pictures each pass takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.batches = net, []

    def forward(self, pixel_values):
        self.batches.append(len(pixel_values))
        return self.net(pixel_values)


def test_proto_names_every_method_and_no_other():
    names = [name.removeprefix("ATTRIBUTION_METHOD_") for name in pb.AttributionMethod.keys()]  # noqa: SIM118
    assert names == ["UNSPECIFIED", *METHODS]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", TAKE_THE_WAY)
def test_linear_model_gets_its_weights_times_the_way(name, seed):
    model, inputs, baselines = Linear(seed), pictures(3, 2, 5, 4), pictures(4, 2, 5, 4, seed=7)
    targets = torch.tensor([0, 2, 1])
    start = torch.zeros_like(baselines[0]) if name == "INPUT_X_GRADIENT" else baselines.mean(dim=0)
    expected = (model.weights(targets) * (inputs - start)).sum(dim=1)
    result = attribute(METHODS[name], model, inputs, targets, baselines)
    assert torch.allclose(result.maps, expected, atol=EXACT)
    assert result.completeness_delta.max() < EXACT


@pytest.mark.parametrize(("height", "width", "strides"), [(5, 4, (1, 1)), (28, 42, (2, 3)), (31, 17, (2, 1))])
def test_occlusion_of_a_linear_model_is_the_mean_of_what_its_four_squares_hold(height, width, strides):
    shape = (2, height, width)
    model, inputs, baselines = Linear(0, shape), pictures(2, *shape), pictures(4, *shape, seed=7)
    targets = torch.tensor([0, 2])
    evidence = (model.weights(targets) * (inputs - baselines.mean(dim=0))).sum(dim=1)
    expected = torch.zeros_like(evidence)
    down, right = strides
    for top in range(-down, height, down):
        for left in range(-right, width, right):
            rows, columns = slice(max(0, top), top + 2 * down), slice(max(0, left), left + 2 * right)
            expected[:, rows, columns] += evidence[:, rows, columns].mean(dim=(1, 2), keepdim=True) / 4
    result = attribute(METHODS["OCCLUSION"], model, inputs, targets, baselines)
    assert torch.allclose(result.maps, expected, atol=EXACT)
    assert result.completeness_delta.max() < EXACT


def test_class_activation_of_averaged_maps_is_each_places_part_of_the_logit():
    net, inputs, targets = Averaged(0), pictures(3, 2, 6, 4), torch.tensor([0, 2, 1])
    with torch.no_grad():
        cells = net.head.weight[targets][:, :, None, None] * net.maps(inputs) / 6
    spread = nn.functional.interpolate(cells.sum(dim=1, keepdim=True), (6, 4), mode="bilinear")[:, 0] / 4
    result = attribute(METHODS["GRAD_CAM"], net, inputs, targets, pictures(2, 2, 6, 4, seed=7))
    assert torch.allclose(result.maps, spread, atol=EXACT)
    assert result.completeness_delta.max() < EXACT
    positive = nn.functional.interpolate(cells.clamp(min=0).sum(dim=1, keepdim=True), (6, 4), mode="bilinear")[:, 0]
    result = attribute(METHODS["LAYER_CAM"], net, inputs, targets, pictures(2, 2, 6, 4, seed=7))
    assert torch.allclose(result.maps, positive / 4, atol=EXACT)


@pytest.mark.parametrize("net", [mlp(), small_cnn()], ids=["mlp", "cnn"])
def test_deep_lift_shap_is_complete(net):
    inputs, baselines = pictures(5, 1, 8, 8), pictures(6, 1, 8, 8, seed=3)
    result = attribute(METHODS["DEEP_LIFT_SHAP"], net, inputs, torch.tensor([0, 1, 2, 3, 0]), baselines)
    assert result.completeness_delta.max() < EXACT


def test_grad_cam_is_complete_on_a_resnet():
    inputs, baselines = (pictures(4, 3, SIDE_PX, SIDE_PX, seed=seed) for seed in (1, 3))
    result = attribute(METHODS["GRAD_CAM"], FAMILIES["resnet"](), inputs, torch.tensor([0, 1, 2, 3]), baselines)
    assert result.completeness_delta.max() < EXACT


@pytest.mark.parametrize("net", [mlp(), small_cnn()], ids=["mlp", "cnn"])
def test_integrated_gradients_are_complete_within_their_steps(net):
    inputs, baselines, targets = pictures(5, 1, 8, 8), pictures(6, 1, 8, 8, seed=3), torch.tensor([0, 1, 2, 3, 0])
    result = attribute(METHODS["INTEGRATED_GRADIENTS"], net, inputs, targets, baselines)
    assert (result.completeness_delta / result.maps.abs().sum(dim=(1, 2))).max() < STEPS_TOLERANCE


@pytest.mark.parametrize("name", METHODS)
def test_picture_gets_the_same_map_alone_and_in_a_batch(name):
    net, inputs, baselines = small_cnn(), pictures(6, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    targets = torch.arange(6) % 4
    together = attribute(METHODS[name], net, inputs, targets, baselines).maps
    alone = attribute(METHODS[name], net, inputs[4:5], targets[4:5], baselines).maps
    assert torch.allclose(together[4], alone[0], atol=EXACT)


@pytest.mark.parametrize("rows", [1, 4, 8])
@pytest.mark.parametrize("name", METHODS)
def test_bound_holds_for_every_pass_and_changes_no_map(name, rows):
    net, inputs, baselines = Counting(small_cnn()), pictures(9, 1, 8, 8), pictures(7, 1, 8, 8, seed=3)
    targets = torch.arange(9) % 4
    whole = attribute(METHODS[name], net, inputs, targets, baselines)
    passes = len(net.batches)
    net.batches.clear()
    split = attribute(METHODS[name], net, inputs, targets, baselines, elements_in_flight=rows * inputs[0].numel())
    pair = 2 if name == "DEEP_LIFT_SHAP" else 1
    assert len(net.batches) > passes
    assert max(net.batches) <= max(rows, pair)
    assert torch.allclose(whole.maps, split.maps, atol=EXACT)
    assert torch.allclose(whole.completeness_delta, split.completeness_delta, atol=EXACT)


@pytest.mark.parametrize("name", METHODS)
def test_same_question_has_the_same_answer_to_the_bit_also_of_a_method_made_from_its_parameters(name):
    net, inputs, baselines = small_cnn().float(), *(pictures(3, 1, 8, 8, seed, torch.float32) for seed in (1, 3))
    method, targets = METHODS[name], torch.tensor([0, 1, 3])
    fields = [field for field in getattr(method, "__dataclass_fields__", ()) if field in method.parameters]
    made = type(method)(**{field: method.parameters[field] for field in fields})
    torch.rand(5)  # moves the generator that all share
    maps = [attribute(each, net, inputs, targets, baselines).maps for each in (method, method, made)]
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("name", METHODS)
def test_other_weights_give_another_map(name):
    inputs, baselines, targets = pictures(2, 2, 6, 4), pictures(3, 2, 6, 4, seed=3), torch.tensor([0, 1])
    made = Averaged if name in NEED_A_GRID else lambda seed: Linear(seed, (2, 6, 4))
    one, other = (attribute(METHODS[name], made(seed), inputs, targets, baselines).maps for seed in (0, 1))
    assert not torch.allclose(one, other, atol=0.001)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_evidence_against_another_class_is_the_difference_of_both_and_turns_round_with_them(name, family):
    net, inputs, baselines = FAMILIES[family](), *(pictures(2, 3, SIDE_PX, SIDE_PX, seed) for seed in (1, 3))
    target, other = torch.tensor([2, 2]), torch.tensor([1, 1])
    against = attribute(METHODS[name], net, inputs, target, baselines, contrast=1)
    assert against.maps.abs().max() > 0
    if name == "LAYER_CAM":  # not linear in the gradient
        return
    turned = attribute(METHODS[name], net, inputs, other, baselines, contrast=2)
    single = [attribute(METHODS[name], net, inputs, each, baselines).maps for each in (target, other)]
    assert torch.allclose(against.maps, single[0] - single[1], atol=EXACT)
    assert torch.allclose(against.maps, -turned.maps, atol=EXACT)


@pytest.mark.parametrize("name", NEED_A_GRID)
def test_net_without_a_grid_is_told_to_be_unfit_and_keeps_no_hook(name):
    net = mlp()
    with pytest.raises(MethodUnfit, match="grid"):
        attribute(METHODS[name], net, pictures(2, 1, 8, 8), torch.tensor([0, 1]), pictures(3, 1, 8, 8, seed=3))
    assert hooks(net) == 0


@pytest.mark.parametrize("name", METHODS)
def test_no_hook_stays_after_success_or_a_bad_target(name):
    net, inputs, baselines = small_cnn(), pictures(2, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    attribute(METHODS[name], net, inputs, torch.tensor([0, 1]), baselines)
    with pytest.raises((IndexError, RuntimeError, AssertionError)):
        attribute(METHODS[name], net, inputs, torch.tensor([0, 99]), baselines)
    assert hooks(net) == 0


@pytest.mark.parametrize("passes", [1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_no_hook_stays_when_the_net_fails_on_its_way(name, passes):
    net, inputs, baselines = Failing(passes), pictures(2, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    with pytest.raises(RuntimeError, match="channels"):
        attribute(METHODS[name], net, inputs, torch.tensor([0, 1]), baselines, elements_in_flight=1)
    assert hooks(net) == 0


@pytest.mark.parametrize("name", METHODS)
def test_parameters_receive_no_gradient(name):
    net = small_cnn()
    attribute(METHODS[name], net, pictures(2, 1, 8, 8), torch.tensor([0, 1]), pictures(3, 1, 8, 8, seed=3))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_deep_lift_shap_equals_the_mean_of_single_baselines():
    net, inputs, baselines = mlp(), pictures(2, 1, 8, 8), pictures(3, 1, 8, 8, seed=3)
    targets, method = torch.tensor([2, 3]), METHODS["DEEP_LIFT_SHAP"]
    mean = torch.stack([method(Logits(net), inputs, targets, baseline[None])[0] for baseline in baselines]).mean(dim=0)
    assert torch.allclose(method(Logits(net), inputs, targets, baselines)[0], mean, atol=EXACT)

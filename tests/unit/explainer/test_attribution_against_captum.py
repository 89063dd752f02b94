"""The methods that captum has too, where its definition is ours."""

import captum.attr
import pytest
import torch

from services.explainer.domain.attribution import METHODS, attribute
from services.explainer.domain.attribution.base import Logits
from services.explainer.domain.attribution.grid import find_grid
from services.explainer.domain.attribution.smooth_grad import SmoothGrad
from tests.unit.explainer.served_nets import FAMILIES, SIDE_PX, pictures, small_cnn

EXACT = 1e-9  # float64
ROUNDING = 1e-6  # captum makes its noise and its windows in float32

INPUTS = pictures(3, 3, SIDE_PX, SIDE_PX)
BASELINES = pictures(4, 3, SIDE_PX, SIDE_PX, seed=3)
TARGETS = torch.tensor([0, 3, 1])


def activations_and_slopes(net):
    """At the layer that our maps read, over its grid: (batch, channels, rows, columns)."""
    layer, grid = find_grid(Logits(net), INPUTS)
    activations = captum.attr.LayerActivation(Logits(net), layer).attribute(INPUTS)
    products = captum.attr.LayerGradientXActivation(Logits(net), layer).attribute(INPUTS, target=TARGETS)
    return grid.read(activations).detach(), grid.read(products / activations.where(activations != 0, 1)).detach()


def over_the_picture(cells: torch.Tensor) -> torch.Tensor:
    resized = captum.attr.LayerAttribution.interpolate(cells, (SIDE_PX, SIDE_PX), "bilinear")[:, 0]
    return resized * cells[0, 0].numel() / SIDE_PX**2


@pytest.mark.parametrize("family", ["resnet", "convnext"])
def test_grad_cam_equals_captums(family):
    net = FAMILIES[family]()
    layer, _ = find_grid(Logits(net), INPUTS)
    cells = captum.attr.LayerGradCam(Logits(net), layer).attribute(INPUTS, target=TARGETS).detach()
    result = attribute(METHODS["GRAD_CAM"], net, INPUTS, TARGETS, BASELINES)
    assert torch.allclose(result.maps, over_the_picture(cells), atol=EXACT)


def test_grad_cam_of_a_vit_equals_one_made_of_captums_gradients_at_the_tokens():
    net = FAMILIES["vit"]()
    activations, slopes = activations_and_slopes(net)
    cells = (slopes.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)
    result = attribute(METHODS["GRAD_CAM"], net, INPUTS, TARGETS, BASELINES)
    assert torch.allclose(result.maps, over_the_picture(cells), atol=EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_layer_cam_equals_one_made_of_captums_gradients(family):
    net = FAMILIES[family]()
    activations, slopes = activations_and_slopes(net)
    cells = (slopes.clamp(min=0) * activations).sum(dim=1, keepdim=True)
    result = attribute(METHODS["LAYER_CAM"], net, INPUTS, TARGETS, BASELINES)
    assert torch.allclose(result.maps, over_the_picture(cells), atol=EXACT)


def test_smooth_grad_equals_captums_with_the_same_noise():
    net, method = FAMILIES["vit"]().float(), SmoothGrad(samples=3, seed=11)
    start = BASELINES.mean(dim=0).float()
    for picture, target in zip(INPUTS.float().split(1), TARGETS, strict=True):
        tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(Logits(net)))
        width = float(method.noise_ratio * (picture.max() - picture.min()))
        gradients = []
        for seed in (11, 12, 13):
            torch.manual_seed(seed)
            told = {"nt_type": "smoothgrad", "nt_samples": 1, "stdevs": width, "target": int(target), "abs": False}
            gradients.append(tunnel.attribute(picture, **told))
        expected = (torch.stack(gradients).mean(dim=0) * (picture - start)).sum(dim=1)
        result = attribute(method, net, picture, target[None], BASELINES.float())
        assert expected.abs().max() > 1000 * ROUNDING
        assert torch.allclose(result.maps, expected, atol=ROUNDING)


def test_occlusion_equals_captums_away_from_the_border():
    net, inputs, baselines = small_cnn().float(), *(pictures(3, 1, 8, 8, seed, torch.float32) for seed in (1, 3))
    targets, side_px = torch.tensor([0, 3, 1]), 2
    expected = captum.attr.Occlusion(Logits(net)).attribute(
        inputs, (1, side_px, side_px), (1, 1, 1), baselines.mean(dim=0, keepdim=True), targets
    )
    result = attribute(METHODS["OCCLUSION"], net, inputs, targets, baselines)
    inside = (slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(result.maps[inside], expected[:, 0][inside] / side_px**2, atol=ROUNDING)


def test_integrated_gradients_equal_captums_where_the_steps_are_as_many():
    net = FAMILIES["convnext"]()
    start = BASELINES.mean(dim=0, keepdim=True)
    told = {"method": "riemann_middle", "n_steps": METHODS["INTEGRATED_GRADIENTS"].parameters["steps"]}
    expected = captum.attr.IntegratedGradients(Logits(net)).attribute(INPUTS, start, TARGETS, **told).sum(dim=1)
    result = attribute(METHODS["INTEGRATED_GRADIENTS"], net, INPUTS, TARGETS, BASELINES)
    assert torch.allclose(result.maps, expected, atol=EXACT)

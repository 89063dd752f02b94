"""The penalty against a closed form and against a slow second way to the same number."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from services.trainer.domain.losses.rrr import right_reasons_penalty

TOLERANCE = 1e-10
"""float64: sums in another order, no more."""
SIDE = 4


def _batch(seed: int, count: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand((count, 1, SIDE, SIDE), generator=generator, dtype=torch.float64)
    return pixels, torch.rand((count, SIDE, SIDE), generator=generator) > 0.5


def _linear(seed: int, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, classes)).double()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_penalty_equals_closed_form_on_linear_softmax(seed: int):
    # d/dx sum_k log softmax_k(Wx + b) = sum_k W_k - K * sum_j p_j W_j
    model, (pixels, masks) = _linear(seed), _batch(seed)
    weight = model[1].weight
    probabilities = model(pixels).softmax(dim=1)
    gradient = weight.sum(dim=0) - len(weight) * probabilities @ weight
    expected = (gradient * masks.flatten(1)).square().sum(dim=1).mean()
    pixels.requires_grad_()
    assert right_reasons_penalty(model(pixels), pixels, masks).item() == pytest.approx(expected.item(), abs=TOLERANCE)


def test_penalty_equals_picture_by_picture_jacobian_of_a_deep_net():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    pixels, masks = _batch(3)
    each = [
        torch.autograd.functional.jacobian(lambda picture: model(picture).log_softmax(dim=1).sum(), picture[None])[0]
        for picture in pixels
    ]
    expected = torch.stack([(g * m).square().sum() for g, m in zip(each, masks, strict=True)]).mean()
    pixels.requires_grad_()
    assert right_reasons_penalty(model(pixels), pixels, masks).item() == pytest.approx(expected.item(), abs=TOLERANCE)


def test_gradient_of_penalty_by_weights_holds_against_finite_differences():
    model, (pixels, masks) = _linear(5), _batch(5)
    weight = model[1].weight.detach().clone()
    bias = model[1].bias.detach()

    def penalty(candidate: torch.Tensor) -> torch.Tensor:
        inputs = pixels.clone().requires_grad_()
        return right_reasons_penalty(nn.functional.linear(inputs.flatten(1), candidate, bias), inputs, masks)

    assert torch.autograd.gradcheck(penalty, (weight.requires_grad_(),))


def test_penalty_is_zero_where_nothing_is_masked():
    model, (pixels, masks) = _linear(0), _batch(0)
    pixels.requires_grad_()
    assert right_reasons_penalty(model(pixels), pixels, torch.zeros_like(masks)).item() == 0.0


def test_penalty_does_not_depend_on_order_or_repetition_of_pictures():
    model, (pixels, masks) = _linear(1), _batch(1)
    again = torch.cat((pixels.flip(0), pixels)).requires_grad_()
    pixels.requires_grad_()
    once = right_reasons_penalty(model(pixels), pixels, masks)
    twice = right_reasons_penalty(model(again), again, torch.cat((masks.flip(0), masks)))
    assert once.item() == pytest.approx(twice.item(), abs=TOLERANCE)


def test_penalty_scales_with_the_inverse_square_of_the_input_scale():
    # The stated convention: the same net on inputs 255 times as large is punished 255² times less.
    model, (pixels, masks) = _linear(2), _batch(2)
    inputs = pixels.clone().requires_grad_()
    large = (pixels * 255).requires_grad_()
    unit = right_reasons_penalty(model(inputs), inputs, masks)
    scaled = right_reasons_penalty(model(large / 255), large, masks)
    assert scaled.item() * 255**2 == pytest.approx(unit.item(), rel=1e-9)

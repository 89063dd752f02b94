"""What holds of every alignment loss, and each one against a slow second way to the same number. float64 throughout."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.autograd.functional import jacobian

from services.common.vision.nets import MlpConfig, MlpForImageClassification
from services.trainer.domain.losses import DEFAULT_LOSS, LOSSES, AlignmentLoss, Penalised
from services.trainer.domain.losses.mask_out import MaskOut, replace_masked
from services.trainer.domain.losses.r4 import RobustRightReasons
from services.trainer.domain.losses.rrr import RightReasons
from services.trainer.domain.pictures import Pictures

SIDE, CLASSES = 4, 3
RIGHT_REASONS = RightReasons()
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def _pictures(seed: int, count: int = 6, masked_ratio: float = 0.4) -> Pictures:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand((count, 1, SIDE, SIDE), generator=generator, dtype=torch.float64)
    masks = torch.rand((count, SIDE, SIDE), generator=generator) < masked_ratio
    return Pictures(pixels, torch.arange(count) % CLASSES, masks)


def _net(seed: int, hidden_sizes: tuple[int, ...] = (8,), classes: int = CLASSES) -> MlpForImageClassification:
    """No hidden size makes it a linear softmax."""
    torch.manual_seed(seed)
    config = MlpConfig(image_size=SIDE, hidden_sizes=hidden_sizes, num_labels=classes)
    return MlpForImageClassification(config).double().eval()


def _run(loss: AlignmentLoss, model: nn.Module, pictures: Pictures, seed: int = 0) -> Penalised:
    return loss(model, pictures, torch.Generator().manual_seed(seed))


@every_loss
def test_logits_are_those_of_the_pictures_as_they_are(loss: AlignmentLoss):
    model, pictures = _net(0), _pictures(0)
    assert torch.equal(_run(loss, model, pictures).logits, model(pixel_values=pictures.pixels).logits)


@every_loss
def test_a_model_without_weights_under_the_masks_is_not_punished_and_one_with_them_is(loss: AlignmentLoss):
    model, pictures = _net(0), _pictures(0)
    assert _run(loss, model, pictures).penalty.item() > 1e-4
    with torch.no_grad():
        model.layers[1].weight[:, pictures.masks.any(dim=0).flatten()] = 0
    assert _run(loss, model, pictures).penalty.item() == pytest.approx(0, abs=1e-30)


@every_loss
def test_empty_masks_are_not_punished(loss: AlignmentLoss):
    assert _run(loss, _net(0), _pictures(0, masked_ratio=0)).penalty.item() == 0


@every_loss
@pytest.mark.parametrize("hidden_sizes", [(), (8,)], ids=["linear", "deep"])
def test_gradient_by_the_weights_holds_against_finite_differences(loss: AlignmentLoss, hidden_sizes: tuple[int, ...]):
    model, pictures = _net(1, hidden_sizes), _pictures(1)
    gradients = torch.autograd.grad(_run(loss, model, pictures).penalty, list(model.parameters()), allow_unused=True)
    directions = [torch.randn_like(weight) for weight in model.parameters()]
    expected = _slope(lambda: _run(loss, model, pictures).penalty.item(), model, directions)
    # The last bias of a deep net moves no input gradient where the softmax stands still, so autograd may leave it out.
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    assert slope == pytest.approx(expected, rel=1e-5)
    assert slope != 0


def _slope(value: Callable[[], float], model: nn.Module, directions: list[torch.Tensor], step: float = 1e-6) -> float:
    """Central difference of `value` along `directions` in the space of the weights."""
    values = []
    for distance in (step, -2 * step):
        with torch.no_grad():
            for weight, direction in zip(model.parameters(), directions, strict=True):
                weight += distance * direction
        values.append(value())
    return (values[0] - values[1]) / (2 * step)


@every_loss
def test_pictures_and_gradients_of_the_weights_are_left_as_they_are(loss: AlignmentLoss):
    model, pictures = _net(0), _pictures(0)
    before = pictures.pixels.clone()
    _run(loss, model, pictures)
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(pictures.pixels, before)
    assert not pictures.pixels.requires_grad


@every_loss
def test_the_same_generator_gives_the_same_penalty(loss: AlignmentLoss):
    model, pictures = _net(0), _pictures(0)
    first, again = (_run(loss, model, pictures, seed=3).penalty.item() for _ in range(2))
    assert first == again


@every_loss
def test_the_parts_of_a_batch_make_up_its_penalty_and_its_logits(loss: AlignmentLoss):
    model, pictures = _net(0), _pictures(0)
    whole = _run(loss, model, pictures, seed=3)
    parts = [loss(model, pictures, torch.Generator().manual_seed(3), rows) for rows in (slice(0, 4), slice(4, 6))]
    assert (4 * parts[0].penalty.item() + 2 * parts[1].penalty.item()) / 6 == pytest.approx(whole.penalty.item())
    assert torch.allclose(torch.cat([part.logits for part in parts]), whole.logits)
    assert parts[0].penalty.item() != pytest.approx(parts[1].penalty.item(), rel=1e-3)


@every_loss
def test_what_a_loss_draws_does_not_depend_on_the_part(loss: AlignmentLoss):
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    for generator, rows in zip(generators, (slice(0, 1), slice(1, 6)), strict=True):
        loss(_net(0), _pictures(0), generator, rows)
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_what_is_random_follows_the_generator():
    model, pictures = _net(0), _pictures(0)
    for loss in (RobustRightReasons(step_count=0, radius=1.0), MaskOut()):
        assert len({_run(loss, model, pictures, seed).penalty.item() for seed in range(8)}) > 1


def test_the_default_loss_is_the_papers():
    assert isinstance(LOSSES[DEFAULT_LOSS], RightReasons)


def _size(model: nn.Module, picture: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Size of the masked gradient of one picture (channel, height, width), by its Jacobian."""

    def log_probabilities(pixels: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixels[None]).logits.log_softmax(dim=1).sum()

    return (jacobian(log_probabilities, picture, create_graph=True) * mask).square().sum()


@pytest.mark.parametrize("seed", [0, 1])
def test_rrr_equals_picture_by_picture_jacobians(seed: int):
    model, pictures = _net(seed), _pictures(seed)
    expected = [_size(model, *pair).item() for pair in zip(pictures.pixels, pictures.masks, strict=True)]
    assert _run(RIGHT_REASONS, model, pictures).penalty.item() == pytest.approx(sum(expected) / len(expected))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("radius", [0.1, 1.0])
def test_r4_equals_a_picture_by_picture_ascent_by_jacobians(seed: int, radius: float):
    model, pictures = _net(seed), _pictures(seed)
    starts = torch.rand(pictures.pixels.shape, generator=torch.Generator().manual_seed(seed)).double()
    darkest, brightest = pictures.pixels.min(), pictures.pixels.max()
    expected = []
    for picture, mask, start in zip(pictures.pixels, pictures.masks, starts, strict=True):
        reach = radius * (brightest - darkest) * mask
        lowest, highest = torch.maximum(picture - reach, darkest), torch.minimum(picture + reach, brightest)
        points = [picture, lowest + (highest - lowest) * start]
        for _ in range(2):
            ascent = jacobian(lambda pixels, mask=mask: _size(model, pixels, mask), points[-1]).sign()
            points.append(torch.minimum(torch.maximum(points[-1] + reach * ascent, lowest), highest))
        expected.append(max(_size(model, point, mask).item() for point in points))
    actual = _run(RobustRightReasons(radius, step_count=2), model, pictures, seed).penalty.item()
    assert actual == pytest.approx(sum(expected) / len(expected))


def test_r4_finds_the_true_maximum_of_a_linear_softmax_with_two_classes():
    # With z = (w₀ − w₁)·x + b₀ − b₁ the gradient is −tanh(z/2)(w₀ − w₁): largest at the end of the box that is farthest from z = 0.
    model, pictures = _net(0, (), classes=2), _pictures(0)
    with torch.no_grad():
        model.layers[-1].bias[0] += 4  # no box crosses z = 0
    weight, bias = model.layers[-1].weight.detach(), model.layers[-1].bias.detach()
    slope = weight[0] - weight[1]
    pixels, masks = pictures.pixels.flatten(1), pictures.masks.flatten(1)
    reach = 0.3 * (pixels.max() - pixels.min()) * masks
    farthest = (pixels + reach * slope.sign()).clamp(pixels.min(), pixels.max())
    sizes = ((farthest @ slope + bias[0] - bias[1]) / 2).tanh().square() * (slope.square() * masks).sum(dim=1)
    penalty = _run(RobustRightReasons(0.3, step_count=4), model, pictures).penalty.item()
    assert penalty == pytest.approx(sizes.mean().item())


@pytest.mark.parametrize("seed", range(5))
def test_r4_is_rrr_at_radius_zero_and_never_less_than_it(seed: int):
    model, pictures = _net(seed, (16, 8)), _pictures(seed)
    plain = _run(RIGHT_REASONS, model, pictures).penalty.item()
    assert _run(RobustRightReasons(radius=0), model, pictures, seed).penalty.item() == pytest.approx(plain, rel=1e-12)
    assert _run(RobustRightReasons(radius=0.5), model, pictures, seed).penalty.item() >= plain


class _Recorder(nn.Module):
    """Keeps the pictures that a model was asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, pixel_values: torch.Tensor) -> object:
        self.seen.append(pixel_values.detach().clone())
        return self.model(pixel_values=pixel_values)


def test_r4_stays_inside_the_mask_the_radius_and_the_range():
    model, pictures = _Recorder(_net(0)), _pictures(0)
    _run(RobustRightReasons(radius=0.2, step_count=3), model, pictures)
    darkest, brightest = pictures.pixels.aminmax()
    for pixels in model.seen:
        moved = (pixels - pictures.pixels).abs()
        assert (moved <= 0.2 * (brightest - darkest) + 1e-12).all()
        assert (moved[~pictures.masks[:, None]] == 0).all()
        assert darkest <= pixels.min()
        assert pixels.max() <= brightest
    assert len(model.seen) == 5


def test_r4_asks_the_same_of_a_model_whose_inputs_are_larger_up_to_the_square_of_the_scale():
    small, large, pictures = _net(0), _net(0), _pictures(0)
    with torch.no_grad():
        large.layers[1].weight /= 255
    scaled = Pictures(pictures.pixels * 255, pictures.labels, pictures.masks)
    unit, shrunk = (_run(LOSSES["R4"], *pair).penalty.item() for pair in ((small, pictures), (large, scaled)))
    assert shrunk * 255**2 == pytest.approx(unit)


@pytest.mark.parametrize("seed", [0, 1])
def test_mask_out_equals_two_divergences_summed_picture_by_picture(seed: int):
    model, pictures = _net(seed), _pictures(seed)
    replaced = replace_masked(pictures, torch.Generator().manual_seed(seed))
    expected = []
    for pair in zip(pictures.pixels, replaced, strict=True):
        p, q = (model(pixel_values=picture[None]).logits[0].softmax(dim=0).tolist() for picture in pair)
        expected += [sum(x * math.log(x / y) for x, y in zip(*sides, strict=True)) for sides in ((p, q), (q, p))]
    assert _run(MaskOut(), model, pictures, seed).penalty.item() == pytest.approx(sum(expected) / len(pictures))


def test_mask_out_replaces_the_mask_alone_with_another_picture_or_one_colour():
    pictures = _pictures(0, count=200)
    masks = pictures.masks.clone()
    masks[:, 0, :2] = True  # two pixels at least, so that one colour can be told from a picture
    replaced = replace_masked(Pictures(pictures.pixels, pictures.labels, masks), torch.Generator().manual_seed(0))
    colours = 0
    for row, (picture, mask) in enumerate(zip(replaced[:, 0], masks, strict=True)):
        assert torch.equal(picture[~mask], pictures.pixels[row, 0, ~mask])
        if (picture[mask] == picture[0, 0]).all():
            colours += 1
        else:
            donors = (pictures.pixels[:, 0, mask] == picture[mask]).all(dim=1).nonzero().flatten().tolist()
            assert len(donors) == 1
            assert donors != [row]
    assert 70 < colours < 130
    assert pictures.pixels.min() <= replaced.min()
    assert replaced.max() <= pictures.pixels.max()


def test_mask_out_punishes_a_model_that_reads_an_artefact_which_all_pictures_have_alike():
    pictures = _pictures(0)
    masks = torch.zeros_like(pictures.masks)
    masks[:, 0, 0] = True
    pictures.pixels[:, 0, 0, 0] = 1
    assert _run(MaskOut(), _net(0), Pictures(pictures.pixels, pictures.labels, masks)).penalty.item() > 1e-5


class _DifferentiableOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, values: torch.Tensor) -> torch.Tensor:
        return values * 2

    @staticmethod
    @once_differentiable
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 2


class _OnceOnly(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return _DifferentiableOnce.apply(values)


def test_mask_out_needs_no_second_derivative_where_the_others_do():
    model, pictures = _net(0), _pictures(0)
    model.layers.insert(1, _OnceOnly())
    _run(MaskOut(), model, pictures).penalty.backward()
    assert model.layers[2].weight.grad.abs().sum() > 0
    with pytest.raises(RuntimeError, match="once_differentiable"):
        _run(RIGHT_REASONS, model, pictures).penalty.backward()

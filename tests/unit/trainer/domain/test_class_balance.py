"""Fine-tuning keeps the shares of the classes that a model was trained for, whatever the data's are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from transformers import DeiTConfig, DeiTForImageClassificationWithTeacher

from services.common.vision.nets import MlpConfig, MlpForImageClassification
from services.trainer.domain.class_balance import (
    SMOOTHING,
    count_decisions,
    learned_shares,
    restore_decisions,
    weigh_classes,
)
from services.trainer.domain.evidence import predict_logits
from services.trainer.domain.pictures import Pictures

SIDE = 2


def _make_pictures(count: int, signal: float, shares: tuple[float, float], seed: int = 0) -> Pictures:
    """Noise of unit variance whose first pixel is raised by `signal` in the second class."""
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=generator) < shares[1]).long()
    pixels = torch.randn((count, 1, SIDE, SIDE), generator=generator)
    pixels[:, 0, 0, 0] += signal * labels
    return Pictures(pixels, labels)


def _calibrated(signal: float, shares: tuple[float, float]) -> MlpForImageClassification:
    """Bayes' rule for such pictures, where the classes come in `shares`."""
    names = {0: "no", 1: "yes"}
    model = MlpForImageClassification(
        MlpConfig(image_size=SIDE, hidden_sizes=(2,), id2label=names, label2id={v: k for k, v in names.items()})
    )
    first, last = (module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        first.weight[0, 0], first.weight[1, 0] = 1.0, -1.0  # relu(x) − relu(−x) = x
        last.weight[1] = signal * torch.tensor([1.0, -1.0])
        last.bias[1] = torch.log(torch.tensor(shares[1] / shares[0])) - signal**2 / 2
    return model.eval()


@pytest.mark.parametrize("trained_for", [(0.5, 0.5), (0.8, 0.2), (0.3, 0.7)])
def test_the_shares_of_a_calibrated_models_training_are_found_on_other_shares(trained_for: tuple[float, float]):
    model = _calibrated(1.0, trained_for)
    validation = _make_pictures(20_000, 1.0, (0.8, 0.2))
    assert learned_shares(model, validation).tolist() == pytest.approx(trained_for, abs=0.02)


def test_a_model_that_is_always_right_leaves_the_shares_of_the_pictures():
    model = _calibrated(30.0, (0.5, 0.5))
    validation = _make_pictures(1000, 30.0, (0.8, 0.2))
    shares = (validation.labels.bincount() / 1000).tolist()
    assert learned_shares(model, validation).tolist() == pytest.approx(shares, abs=1e-3)


def test_a_class_without_a_picture_does_no_harm():
    validation = _make_pictures(1000, 1.0, (1.0, 0.0))
    assert learned_shares(_calibrated(1.0, (0.5, 0.5)), validation).isfinite().all()


def test_a_class_that_only_the_model_has_takes_no_share_from_those_of_the_pictures():
    validation = _make_pictures(20_000, 1.0, (0.8, 0.2))
    model = _calibrated(1.0, (0.5, 0.5))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    third = torch.nn.Linear(2, 3)
    with torch.no_grad():
        # Said of the first class's pictures above all: led on to it, that class would have a share of nearly nothing.
        third.weight.copy_(torch.cat((last.weight, last.weight[:1] - 1.0 * last.weight[1:])))
        third.bias.copy_(torch.cat((last.bias, last.bias[:1] - 0.5)))
    wider = copy.deepcopy(model)
    wider.layers[-1] = third
    wider.config.id2label = {0: "no", 1: "yes", 2: "other"}
    shares = learned_shares(wider, validation)
    assert shares[2] == 0
    assert shares[:2].tolist() == pytest.approx(learned_shares(model, validation).tolist(), abs=1e-6)


def test_weights_turn_the_expected_counts_into_the_wanted_shares():
    expected, wanted = torch.tensor([60.0, 30.0, 0.0]), torch.tensor([0.25, 0.5, 0.25])
    weights = weigh_classes(wanted, expected)
    counted = weights * expected / expected.sum()
    assert counted.tolist() == pytest.approx([0.25, 0.5, 0.0])


def test_decisions_are_restored_by_the_bias_alone_and_the_model_given_stays_as_it_is():
    model = _calibrated(1.0, (0.95, 0.05))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    validation, other = (_make_pictures(20_000, 1.0, (0.8, 0.2), seed) for seed in (0, 1))
    assert count_decisions(model, validation)[1] < 0.05
    restored = restore_decisions(model, validation, torch.tensor([0.7, 0.3]))
    changed = [name for name, value in restored.state_dict().items() if not torch.equal(value, before[name])]
    assert len(changed) == 1
    assert changed[0].endswith("bias")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert count_decisions(restored, other).tolist() == pytest.approx([0.7, 0.3], abs=0.02)


def test_a_model_that_decides_as_often_already_keeps_its_decisions():
    model = _calibrated(1.0, (0.5, 0.5))
    validation = _make_pictures(20_000, 1.0, (0.8, 0.2))
    restored = restore_decisions(model, validation, count_decisions(model, validation))
    is_same = predict_logits(restored, validation.pixels).argmax(1) == predict_logits(model, validation.pixels).argmax(
        1
    )
    assert is_same.float().mean() > 0.98


def test_a_model_that_says_one_thing_of_all_pictures_does_no_harm():
    model = _calibrated(0.0, (0.5, 0.5))
    validation = _make_pictures(100, 1.0, (0.5, 0.5))
    restored = restore_decisions(model, validation, torch.tensor([0.5, 0.5]))
    assert predict_logits(restored, validation.pixels).isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 5.0])
def test_a_model_that_diverged_or_says_the_same_of_all_classes_is_copied_as_it_is(value: float):
    model = _calibrated(0.0, (0.5, 0.5))
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.fill_(value)
    restored = restore_decisions(model, _make_pictures(100, 1.0, (0.5, 0.5)), torch.tensor([0.7, 0.3]))
    _assert_is_same(restored, model)


def test_decisions_are_restored_where_the_logits_are_the_mean_of_two_heads():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = DeiTConfig(**sizes, image_size=SIDE, patch_size=1, num_channels=1, num_labels=2)
    model = DeiTForImageClassificationWithTeacher(config).eval()
    with torch.no_grad():
        for head in (model.cls_classifier, model.distillation_classifier):
            head.weight.normal_()
    validation = _make_pictures(2000, 1.0, (0.5, 0.5))
    # The last linear layer is one of the heads: its bias moves the logits by half.
    restored = restore_decisions(model, validation, torch.tensor([0.2, 0.8]))
    logits, moved = (predict_logits(each, validation.pixels) for each in (model, restored))
    width = SMOOTHING * (logits - logits.mean(dim=1, keepdim=True)).std()
    smoothed = (moved / width).softmax(dim=1).mean(dim=0)
    assert smoothed.tolist() == pytest.approx([0.2, 0.8], abs=0.001)


def test_a_model_whose_logits_another_layer_gives_is_copied_as_it_is():
    model = _calibrated(1.0, (0.5, 0.5))
    model.layers.append(nn.Tanh())
    restored = restore_decisions(model, _make_pictures(300, 1.0, (0.5, 0.5)), torch.tensor([0.9, 0.1]))
    _assert_is_same(restored, model)


def _assert_is_same(restored: nn.Module, model: nn.Module) -> None:
    for name, value in model.state_dict().items():
        assert torch.equal(restored.state_dict()[name].nan_to_num(), value.nan_to_num()), name

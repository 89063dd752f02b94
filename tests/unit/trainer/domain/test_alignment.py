"""Fine-tuning with masks makes a shortcut model read the class instead, and it is label-free numbers that choose."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from services.trainer.domain.alignment import LEAST_STEPS, STRENGTHS, Alignment, _rank, align, steps_for
from services.trainer.domain.evidence import Evidence, predict
from services.trainer.domain.fine_tuning import fine_tune
from services.trainer.domain.pictures import Pictures
from tests.unit.trainer.shortcut_set import CLASSES, SIDE, make_pictures, take, train_shortcut

STEPS = 300


def _accuracy(model: torch.nn.Module, pictures: Pictures) -> float:
    return float((predict(model, pictures.pixels) == pictures.labels).float().mean())


@pytest.fixture(scope="module")
def parts() -> dict:
    train = make_pictures(600, seed=0)
    validation = make_pictures(150, seed=1)
    return {
        "start": train_shortcut(train),
        "train": dataclasses.replace(train, masks=None),
        "critiqued": take(train, 60),
        "validation": dataclasses.replace(validation, masks=None),
        "held_out": take(validation, 45),
    }


@pytest.fixture(scope="module")
def aligned(parts: dict) -> Alignment:
    return align(**parts, step_count=STEPS, seed=0)


def test_align_makes_a_shortcut_model_right_where_the_shortcut_lies(parts: dict, aligned: Alignment):
    lying = make_pictures(300, seed=2, is_lying=True)
    assert _accuracy(parts["start"], lying) < 0.5
    assert _accuracy(aligned.model, lying) > _accuracy(parts["start"], lying) + 0.3
    assert _accuracy(aligned.model, parts["validation"]) > 0.95


def test_align_takes_the_best_swap_accuracy_and_reports_what_it_measured(aligned: Alignment):
    assert aligned.chosen.evidence.swap_accuracy == max(trial.evidence.swap_accuracy for trial in aligned.trials)
    assert aligned.chosen.evidence.swap_accuracy > aligned.before.swap_accuracy
    assert aligned.chosen.evidence.flip_rate < aligned.before.flip_rate
    assert tuple(trial.strength for trial in aligned.trials) == STRENGTHS


def test_align_leaves_the_model_it_starts_from_alone(parts: dict):
    before = copy.deepcopy(parts["start"].state_dict())
    align(**parts, step_count=5, seed=0)
    assert all(torch.equal(before[name], value) for name, value in parts["start"].state_dict().items())


def test_align_gives_the_same_weights_for_the_same_seed(parts: dict):
    first, again, other = (align(**parts, step_count=20, seed=seed).model for seed in (0, 0, 1))
    pixels = parts["validation"].pixels
    outputs = [model(pixel_values=pixels).logits for model in (first, again, other)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_align_refuses_held_out_pictures_between_which_nothing_can_be_swapped(parts: dict):
    with pytest.raises(ValueError, match="held_out"):
        align(**parts | {"held_out": take(parts["held_out"], 0)}, step_count=20, seed=0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"swap_accuracy": 0.8}),
        ({"swap_accuracy": 0.8}, {"class_accuracy": (0.7, 1.0)}),  # the gate would refuse the other one
        ({"swap_accuracy": 0.8}, {"flip_rate": 0.7}),
        ({"swap_accuracy": 0.8, "flip_rate": 0.7}, {"accuracy": 0.9}),  # both refused; the other one is below the floor
        ({"accuracy": 0.92, "swap_accuracy": 0.95}, {}),  # a fall of exactly 0.05 is allowed
    ],
)
def test_what_the_gate_would_accept_comes_before_what_it_would_not_and_then_swap_accuracy_decides(
    better: dict, worse: dict
):
    before = Evidence(accuracy=0.97, class_accuracy=(1.0, 1.0), swap_accuracy=0.4, flip_rate=0.6, swap_count=9)
    after = Evidence(accuracy=0.96, class_accuracy=(0.96, 1.0), swap_accuracy=0.9, flip_rate=0.1, swap_count=9)
    first, second = (_rank(dataclasses.replace(after, **change), before) for change in (better, worse))
    assert first > second


def test_align_asks_the_same_of_a_model_whose_inputs_are_larger(parts: dict):
    unit, scaled = _first_losses(parts, 1.0), _first_losses(parts, 4.0)
    assert scaled == pytest.approx(unit, rel=1e-4)
    assert len(set(unit)) == len(STRENGTHS)


def _first_losses(parts: dict, scale: float) -> list[float]:
    """The loss at each strength, before the weights have moved, of the same model on inputs `scale` times as large."""
    start = copy.deepcopy(parts["start"])
    with torch.no_grad():
        next(start.parameters()).div_(scale)
    pictures = {
        name: dataclasses.replace(part, pixels=part.pixels * scale) for name, part in parts.items() if name != "start"
    }
    losses: list[float] = []
    align(start, **pictures, step_count=1, seed=0, on_step=lambda *told: losses.append(told[2]), input_scale=scale)
    return losses


def test_regions_found_in_one_class_make_the_model_right_in_the_others_too(parts: dict):
    critiqued = parts["critiqued"]
    one_class = dataclasses.replace(critiqued, masks=critiqued.masks & (critiqued.labels == 0)[:, None, None])
    lying = make_pictures(300, seed=2, is_lying=True)
    others = lying.labels != 0
    *_, last = fine_tune(parts["start"], parts["train"], one_class, 1e-2, STEPS, seed=0)
    before, after = (
        float((predict(model, lying.pixels) == lying.labels)[others].float().mean())
        for model in (parts["start"], last.model)
    )
    assert after > before + 0.2


def test_fine_tuning_takes_a_vision_transformer():
    names = {str(index): index for index in range(CLASSES)}
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=SIDE,
        patch_size=4,
        num_channels=1,
        label2id=names,
        id2label={index: name for name, index in names.items()},
    )
    pictures = make_pictures(20, seed=0)
    snapshot = next(fine_tune(ViTForImageClassification(config), pictures, pictures, 1e-2, 1, 0))
    assert snapshot.loss > 0


def test_align_reports_steps_over_all_strengths(parts: dict):
    told: list[tuple[int, int]] = []
    align(**parts, step_count=150, seed=0, on_step=lambda done, total, loss: told.append((done, total)))
    assert [done for done, _ in told] == [100, 150, 250, 300, 400, 450, 550, 600]
    assert {total for _, total in told} == {600}


def test_fine_tuning_refuses_pictures_without_masks(parts: dict):
    with pytest.raises(ValueError, match="critiqued"):
        next(fine_tune(parts["start"], parts["train"], parts["train"], 1e-3, 1, 0))


def test_steps_are_passes_over_the_set_but_never_too_few():
    assert steps_for(100, epochs=1) == LEAST_STEPS
    assert steps_for(128_000, epochs=2) == 2000

"""Fine-tuning with masks makes a shortcut model read the class instead, and it is label-free numbers that choose."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from services.trainer.domain.alignment import LEAST_STEPS, STRENGTHS, Alignment, align, steps_for
from services.trainer.domain.evidence import predict
from services.trainer.domain.fine_tuning import Pictures, fine_tune
from tests.unit.trainer.shortcut_set import make_pictures, take, train_shortcut

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
        "masked": take(train, 60),
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


def test_align_without_held_out_masks_goes_by_validation_accuracy(parts: dict):
    bare = parts | {"held_out": take(parts["held_out"], 0)}
    result = align(**bare, step_count=20, seed=0)
    assert result.chosen.evidence.swap_accuracy is None
    assert result.chosen.evidence.accuracy == max(trial.evidence.accuracy for trial in result.trials)


def test_align_reports_steps_over_all_strengths(parts: dict):
    told: list[tuple[int, int]] = []
    align(**parts, step_count=150, seed=0, on_step=lambda done, total, loss: told.append((done, total)))
    assert [done for done, _ in told] == [100, 150, 250, 300, 400, 450, 550, 600]
    assert {total for _, total in told} == {600}


def test_fine_tuning_refuses_pictures_without_masks(parts: dict):
    with pytest.raises(ValueError, match="masked"):
        next(fine_tune(parts["start"], parts["train"], parts["train"], 1e-3, 1, 0))


def test_steps_are_passes_over_the_set_but_never_too_few():
    assert steps_for(100, epochs=1) == LEAST_STEPS
    assert steps_for(128_000, epochs=2) == 2000

"""Fine-tuning with masks makes a shortcut model read the class instead, and it is label-free numbers that choose."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Iterator

import pytest
import torch
from transformers import ViTConfig, ViTForImageClassification

from services.trainer.domain.alignment import (
    LEAST_STEPS,
    STRENGTH_STEPS,
    Alignment,
    NothingToSwap,
    _rank,
    align,
    list_strengths,
    steps_for,
)
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import Evidence, predict
from services.trainer.domain.fine_tuning import PAPER_RECIPE, BatchDraw, Recipe, Setting, Snapshot, fine_tune
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.pictures import Pictures
from tests.unit.trainer.shortcut_set import CLASSES, SIDE, make_pictures, take, train_shortcut

STEPS = 300


def _accuracy(model: torch.nn.Module, pictures: Pictures) -> float:
    return float((predict(model, pictures.pixels) == pictures.labels).float().mean())


def _fine_tune(parts: dict, strength: float, step_count: int, recipe: Recipe | None = None) -> Iterator[Snapshot]:
    shares = torch.full((CLASSES,), 1 / CLASSES)
    pictures = (parts[name] for name in ("start", "train", "critiqued"))
    return fine_tune(*pictures, recipe or Recipe(), Setting(3e-3, strength), shares, step_count, 0)


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


def test_align_improves_what_it_measures_and_says_what_it_tried(parts: dict, aligned: Alignment):
    assert aligned.chosen.evidence.swap_accuracy > aligned.before.swap_accuracy
    assert aligned.chosen.evidence.flip_rate < aligned.before.flip_rate
    assert aligned.chosen.evidence.reliance < aligned.before.reliance
    strengths = list_strengths(parts["start"], parts["critiqued"], Recipe(), 0)
    rates, climb = aligned.trials[:2], aligned.trials[2:]
    assert [trial.setting for trial in rates] == [Setting(rate, strengths[0]) for rate in Recipe().learning_rates]
    assert [trial.setting.strength for trial in climb] == strengths[1 : 1 + len(climb)]
    assert {trial.setting.learning_rate for trial in climb} == {aligned.chosen.setting.learning_rate}
    assert aligned.chosen.setting in [trial.setting for trial in aligned.trials]


def test_the_better_learning_rate_is_taken(parts: dict):
    recipe = Recipe(learning_rates=(1e-6, 1e-2), critiqued_count=0)
    result = align(**parts, step_count=STEPS, seed=0, recipe=recipe)
    assert [trial.setting.learning_rate for trial in result.trials] == [1e-6, 1e-2]
    assert result.chosen.setting.learning_rate == 1e-2


def test_a_learning_rate_that_a_net_does_not_bear_is_passed_over(parts: dict):
    result = align(**parts, step_count=40, seed=0, recipe=Recipe(learning_rates=(1e30, 3e-3)))
    assert result.trials[0].evidence.swap_accuracy == 0.0
    assert result.chosen.setting.learning_rate == 3e-3
    assert all(value.isfinite().all() for value in result.model.state_dict().values())


def test_the_last_snapshot_of_those_that_are_alike_is_kept(aligned: Alignment):
    assert aligned.chosen.evidence.swap_accuracy > 0.95
    assert aligned.chosen.step == STEPS


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
    with pytest.raises(NothingToSwap, match="held_out"):
        align(**parts | {"held_out": take(parts["held_out"], 0)}, step_count=20, seed=0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({}, {"swap_accuracy": 0.8}),
        ({"swap_accuracy": 0.8}, {"class_accuracy": (0.7, 1.0)}),  # the gate would refuse the other one
        ({"swap_accuracy": 0.8}, {"flip_rate": 0.7}),
        ({"swap_accuracy": 0.8, "flip_rate": 0.7}, {"accuracy": 0.8}),  # both refused; the other one is below the floor
        ({"accuracy": 0.86, "swap_accuracy": 0.95}, {}),  # a fall of exactly 0.05 and a tenth of the flips is allowed
    ],
)
def test_what_the_gate_would_accept_comes_before_what_it_would_not_and_then_swap_accuracy_decides(
    better: dict, worse: dict
):
    before = Evidence(accuracy=0.97, class_accuracy=(1.0, 1.0), swap_accuracy=0.4, flip_rate=0.6, swap_count=9)
    after = Evidence(accuracy=0.96, class_accuracy=(0.96, 1.0), swap_accuracy=0.9, flip_rate=0.1, swap_count=9)
    first, second = (_rank(dataclasses.replace(after, **change), before, Criteria()) for change in (better, worse))
    assert first > second


def test_snapshots_are_ranked_by_what_the_job_asks_for():
    before = Evidence(accuracy=0.97, class_accuracy=(1.0, 1.0), swap_accuracy=0.4, flip_rate=0.6, swap_count=9)
    bold = dataclasses.replace(before, swap_accuracy=0.9, flip_rate=0.1, class_accuracy=(0.85, 1.0))
    careful = dataclasses.replace(bold, swap_accuracy=0.8, class_accuracy=(0.95, 1.0))
    asked = Criteria(min_class_accuracy=0.9)
    assert _rank(bold, before, Criteria()) > _rank(careful, before, Criteria())
    assert _rank(bold, before, asked) < _rank(careful, before, asked)


@pytest.mark.parametrize("name", LOSSES)
def test_the_first_strength_makes_the_penalty_weigh_what_a_guess_costs(parts: dict, name: str):
    recipe = Recipe(loss=LOSSES[name])
    strengths = list_strengths(parts["start"], parts["critiqued"], recipe, seed=0)
    assert len(strengths) == STRENGTH_STEPS
    assert [high / low for low, high in itertools.pairwise(strengths)] == pytest.approx([10.0] * (STRENGTH_STEPS - 1))
    penalties = [
        recipe.loss(parts["start"], parts["critiqued"], torch.Generator().manual_seed(seed)).penalty.item()
        for seed in range(20)
    ]
    assert strengths[0] * sum(penalties) / len(penalties) == pytest.approx(math.log(CLASSES), rel=0.1)


def test_strengths_ask_the_same_of_a_model_whose_inputs_are_larger(parts: dict):
    start = copy.deepcopy(parts["start"])
    with torch.no_grad():
        next(start.parameters()).div_(4)
    larger = dataclasses.replace(parts["critiqued"], pixels=parts["critiqued"].pixels * 4)
    scaled = list_strengths(start, larger, Recipe(), 0)
    assert scaled == pytest.approx(
        [16 * strength for strength in list_strengths(parts["start"], parts["critiqued"], Recipe(), 0)], rel=1e-3
    )


def test_without_a_penalty_and_with_one_rate_there_is_nothing_to_try(parts: dict):
    result = align(**parts, step_count=20, seed=0, recipe=Recipe(critiqued_count=0, learning_rates=(1e-3,)))
    assert (result.trials, result.chosen.setting) == ((), Setting(1e-3, 0.0))


def test_regions_found_in_one_class_make_the_model_right_in_the_others_too(parts: dict):
    critiqued = parts["critiqued"]
    one_class = dataclasses.replace(critiqued, masks=critiqued.masks & (critiqued.labels == 0)[:, None, None])
    lying = make_pictures(300, seed=2, is_lying=True)
    others = lying.labels != 0
    *_, last = _fine_tune(parts | {"critiqued": one_class}, 1e-2, STEPS)
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
    start = ViTForImageClassification(config)
    snapshot = next(_fine_tune({"start": start, "train": pictures, "critiqued": pictures}, 1e-2, 1))
    assert snapshot.loss > 0


def test_align_reports_steps_over_trials_and_the_full_run(parts: dict):
    told: list[tuple[int, int]] = []
    result = align(**parts, step_count=150, seed=0, on_step=lambda done, total, loss: told.append((done, total)))
    trials = 15 * len(result.trials)
    assert [done for done, _ in told][-10:] == [trials + 15 * number for number in range(1, 11)]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (150 + trials, 150 + trials)


def test_align_tells_losses_by_part_and_what_each_ranked_model_came_to(parts: dict):
    told: list[tuple[int, dict[str, float]]] = []
    result = align(**parts, step_count=150, seed=0, on_numbers=lambda step, numbers: told.append((step, dict(numbers))))
    groups = {
        group: [each for each in told if each[1].keys() <= {f"{group}/{n}" for n in names}]
        for group, names in (
            ("before", result.before.curves()),
            ("snapshot", result.before.curves()),
            ("step", ("cross_entropy", "penalty", "learning_rate", "strength")),
        )
    }
    assert sum(map(len, groups.values())) == len(told)
    assert groups["before"] == [(0, {f"before/{name}": value for name, value in result.before.curves().items()})]

    trials = 15 * len(result.trials)
    ranked = dict(groups["snapshot"])
    assert list(ranked) == [15 * number for number in range(1, len(result.trials) + 1)] + [
        trials + 15 * number for number in range(1, 11)
    ]
    for step, trial in [*zip(ranked, result.trials, strict=False), (trials + result.chosen.step, result.chosen)]:
        assert ranked[step] == {f"snapshot/{name}": value for name, value in trial.evidence.curves().items()}

    steps = dict(groups["step"])
    assert list(steps) == list(range(1, trials + 151))
    assert all(numbers["step/penalty"] > 0 for numbers in steps.values())
    assert steps[1]["step/strength"] == result.trials[0].setting.strength
    assert (steps[trials + 1]["step/learning_rate"], steps[trials + 1]["step/strength"]) == dataclasses.astuple(
        result.chosen.setting
    )
    assert steps[trials + 150]["step/learning_rate"] < 0.01 * steps[trials + 1]["step/learning_rate"]


def test_snapshots_are_ten_and_the_last_is_the_end(parts: dict):
    steps = [snapshot.step for snapshot in _fine_tune(parts, 0.0, 47, PAPER_RECIPE)]
    assert steps[-1] == 47
    assert len(steps) in (10, 11)
    assert len(list(_fine_tune(parts, 0.0, 3))) == 3


def test_the_papers_batch_moves_nothing_and_ours_moves_regions_both_ways(parts: dict):
    draw = BatchDraw(parts["train"], parts["critiqued"], Recipe(redrawn_ratio=0.0), torch.Generator().manual_seed(0))
    free, masked = draw()
    assert (len(free), len(masked)) == (64 + 160, 32)
    assert masked.masks.flatten(1).any(dim=1).all()
    known = {tuple(picture.flatten().tolist()) for picture in parts["train"].pixels}
    is_known = [tuple(picture.flatten().tolist()) in known for picture in free.pixels]
    assert all(is_known[:64])
    assert (
        sum(is_known[64:184]) / 120 < 0.4
    )  # a block of the picture's own class is no other picture: a third of what is carried
    assert not any(is_known[184:])
    paper = BatchDraw(parts["train"], parts["critiqued"], PAPER_RECIPE, torch.Generator().manual_seed(0))()
    assert [len(part) for part in paper] == [128, 128]
    assert all(tuple(picture.flatten().tolist()) in known for picture in paper[0].pixels)


def test_a_region_that_one_class_has_is_carried_onto_all_classes_alike(parts: dict):
    critiqued = parts["critiqued"]
    one_class = dataclasses.replace(critiqued, masks=critiqued.masks & (critiqued.labels == 0)[:, None, None])
    recipe = Recipe(ordinary_count=1, critiqued_count=1, moved_count=1200)
    free, _ = BatchDraw(parts["train"], one_class, recipe, torch.Generator().manual_seed(0))()
    assert free.labels[1:901].bincount().tolist() == pytest.approx([300, 300, 300], abs=60)


def test_redrawn_regions_keep_their_shape_and_stay_in_the_range_of_the_pictures(parts: dict):
    recipe = Recipe(ordinary_count=1, critiqued_count=1, moved_count=400, redrawn_ratio=1.0)
    free, _ = BatchDraw(parts["train"], parts["critiqued"], recipe, torch.Generator().manual_seed(0))()
    blocks = free.pixels[1:301, 0, :2, :2]  # a quarter is cleared, at the end
    assert torch.allclose(blocks.amax(dim=(1, 2)), blocks.amin(dim=(1, 2)))  # even blocks stay even
    low, high = parts["train"].pixels.aminmax()
    heights = (blocks[:, 0, 0] - low) / (high - low)
    assert heights.min() >= 0
    assert heights.max() <= 1 + 1e-6
    bright = heights[heights > 0]  # what is as dark as can be stays so
    assert bright.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx([0.25, 0.5, 0.75], abs=0.08)


def test_fine_tuning_refuses_pictures_without_masks(parts: dict):
    with pytest.raises(ValueError, match="critiqued"):
        next(_fine_tune(parts | {"critiqued": parts["train"]}, 1e-3, 1))


def test_steps_are_passes_over_the_set_but_never_too_few():
    assert steps_for(100, epochs=1) == LEAST_STEPS
    assert steps_for(128_000, epochs=2) == 2000


def test_what_a_batch_is_expected_to_hold_is_what_it_holds(parts: dict):
    critiqued = parts["critiqued"]
    two_classes = dataclasses.replace(critiqued, masks=critiqued.masks & (critiqued.labels < 2)[:, None, None])
    _assert_expectation_holds(BatchDraw(parts["train"], two_classes, Recipe(), torch.Generator().manual_seed(0)))


def test_a_batch_is_as_expected_and_full_where_pictures_of_one_class_alone_were_critiqued(parts: dict):
    critiqued = parts["critiqued"]
    one_class = critiqued.take(torch.nonzero(critiqued.labels == 0).flatten())
    draw = BatchDraw(parts["train"], one_class, Recipe(), torch.Generator().manual_seed(0))
    free, _ = draw()
    assert len(free) == Recipe().ordinary_count + Recipe().moved_count
    _assert_expectation_holds(draw)


def _assert_expectation_holds(draw: BatchDraw) -> None:
    drawn = torch.cat([part.labels for _ in range(100) for part in draw()]).bincount() / 100
    assert draw.expect_labels(CLASSES).tolist() == pytest.approx(drawn.tolist(), rel=0.02)

"""Weight decay, JTT, SUBG and DFR on stripes with a block that betrays the class in training and lies in some group-labelled pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from transformers import PreTrainedModel

from benchmarks.alignment.baselines import (
    INVERSE_PENALTIES,
    SUBG_DECAYS,
    balanced_rows,
    deep_feature_reweighting,
    error_set,
    just_train_twice,
    l2_only,
    subsample_groups,
    upweighted_rows,
)
from benchmarks.alignment.problem import LabelledPictures, Problem
from services.common.vision.class_specification import ClassRule, ClassSpecification
from services.trainer.domain.evidence import predict
from services.trainer.domain.pictures import Pictures
from tests.unit.trainer.shortcut_set import CLASSES, make_pictures, train_shortcut

LEAST, MOST = -4.0, 4.0
STEPS = 200
MARGIN = 0.3
"""What accuracy must rise by where the block lies."""


def to_pixels(pictures: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pictures.astype(np.float32) / 255 * (MOST - LEAST) + LEAST)[:, None]


def draw(count: int, seed: int, is_lying: bool = False) -> LabelledPictures:
    made = make_pictures(count, seed, is_lying)
    heights = (made.pixels[:, 0].numpy() - LEAST) / (MOST - LEAST)
    pictures = (heights * 255).round().clip(0, 255).astype(np.uint8)
    return LabelledPictures(pictures, made.labels.numpy(), made.masks.numpy(), np.full(count, int(is_lying)))


def join(*parts: LabelledPictures) -> LabelledPictures:
    return LabelledPictures(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("pictures", "labels", "artefacts", "groups")
        )
    )


GROUP_LABELLED = join(draw(200, seed=3), draw(60, seed=4, is_lying=True))
PROBLEM = Problem(
    name="stripes",
    labels=tuple(map(str, range(CLASSES))),
    group_names=("block true", "block lies"),
    train=draw(300, seed=0),
    validation=draw(150, seed=1),
    test=draw(300, seed=2, is_lying=True),
    group_labelled=GROUP_LABELLED,
    specification=ClassSpecification("Tell the stripe.", (ClassRule("all", "the stripe", "the block"),)),
    to_pixels=to_pixels,
    train_shortcut=lambda train, seed: train_shortcut(as_pictures(train), seed),
)
BASELINES = {
    "l2": lambda plain: l2_only(plain, PROBLEM, STEPS, seed=0),
    "jtt": lambda plain: just_train_twice(plain, PROBLEM, GROUP_LABELLED, STEPS, seed=0),
    "subg": lambda plain: subsample_groups(plain, PROBLEM, GROUP_LABELLED, STEPS, seed=0),
    "dfr": lambda plain: deep_feature_reweighting(plain, PROBLEM, GROUP_LABELLED, seed=0),
}


def as_pictures(labelled: LabelledPictures) -> Pictures:
    return Pictures(to_pixels(labelled.pictures), torch.from_numpy(labelled.labels))


def accuracy(model: PreTrainedModel, labelled: LabelledPictures) -> float:
    return float((predict(model, to_pixels(labelled.pictures)).numpy() == labelled.labels).mean())


@pytest.fixture(autouse=True, scope="module")
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def plain() -> PreTrainedModel:
    return PROBLEM.train_shortcut(PROBLEM.train, 0)


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_a_baseline_is_a_new_model_and_the_same_one_each_time(
    plain: PreTrainedModel, baseline: Callable[[PreTrainedModel], PreTrainedModel]
):
    before = copy.deepcopy(plain.state_dict())
    first, second = baseline(plain).state_dict(), baseline(plain).state_dict()
    assert all(torch.equal(plain.state_dict()[name], value) for name, value in before.items())
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], before[name]) for name in first)


@pytest.mark.parametrize("name", ["subg", "dfr"])
def test_balanced_pictures_make_the_model_give_the_shortcut_up(plain: PreTrainedModel, name: str):
    assert accuracy(BASELINES[name](plain), PROBLEM.test) > accuracy(plain, PROBLEM.test) + MARGIN


def test_jtt_makes_the_model_give_up_a_shortcut_that_fails_in_training():
    problem = replace(PROBLEM, train=join(draw(294, seed=0), draw(6, seed=5, is_lying=True)))
    plain = train_shortcut(as_pictures(problem.train), steps=20)
    model = just_train_twice(plain, problem, GROUP_LABELLED, STEPS, seed=0)
    # Training on without weights gains 0.31: some of a shortcut that fails is given up anyway.
    assert accuracy(model, problem.test) > accuracy(plain, problem.test) + 0.31 + MARGIN / 2


def test_the_error_set_is_what_the_model_gets_wrong(plain: PreTrainedModel):
    shown = as_pictures(PROBLEM.validation)
    with torch.no_grad():
        labels = plain(pixel_values=shown.pixels).logits.argmax(dim=1)
    labels[[3, 70, 149]] = (labels[[3, 70, 149]] + 1) % CLASSES
    assert error_set(plain, Pictures(shown.pixels, labels)).tolist() == [3, 70, 149]


def test_an_error_weighs_as_often_as_it_is_told():
    assert np.bincount(upweighted_rows(6, np.array([1, 4]), 20)).tolist() == [1, 20, 1, 1, 20, 1]
    assert upweighted_rows(3, np.array([], dtype=np.int64), 20).tolist() == [0, 1, 2]


def test_balanced_rows_are_different_pictures_as_many_of_every_group_as_of_the_smallest():
    labels, groups = np.repeat([0, 0, 1, 1], [9, 3, 5, 7]), np.repeat([0, 1, 0, 1], [9, 3, 5, 7])
    labelled = LabelledPictures(np.zeros((24, 8, 8)), labels, np.zeros((24, 8, 8), dtype=bool), groups)
    draws = [balanced_rows(labelled, np.random.default_rng(seed)) for seed in range(20)]
    for rows in draws:
        assert len(set(rows)) == len(rows)
        assert np.bincount(labels[rows] * 2 + groups[rows]).tolist() == [3, 3, 3, 3]
    assert set(np.concatenate(draws)) == set(range(24))
    assert len(balanced_rows(labelled, np.random.default_rng(0), most=9)) == 8


def test_subg_trains_on_equal_counts_of_every_group(plain: PreTrainedModel):
    seen: list[torch.Tensor] = []
    watched = copy.deepcopy(plain)
    watched.register_forward_pre_hook(
        lambda _, args, inputs: seen.append(inputs["pixel_values"]) if torch.is_grad_enabled() else None,
        with_kwargs=True,
    )
    subsample_groups(watched, PROBLEM, GROUP_LABELLED, 10, seed=0)
    trial_count = 10 * len(SUBG_DECAYS)
    cells = GROUP_LABELLED.labels * 2 + GROUP_LABELLED.groups
    known = to_pixels(GROUP_LABELLED.pictures).flatten(1)
    tried, final = (torch.cat(part).flatten(1).unique(dim=0) for part in (seen[:trial_count], seen[trial_count:]))
    smallest = np.bincount(cells).min()
    for shown, count in ((tried, (smallest + 1) // 2), (final, smallest)):
        rows = [int((known == picture).all(dim=1).nonzero()) for picture in shown]
        assert np.bincount(cells[rows]).tolist() == [count] * (2 * CLASSES)


def test_dfr_changes_the_last_layer_alone(plain: PreTrainedModel):
    before, after = plain.state_dict(), BASELINES["dfr"](plain).state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == {
        "layers.3.weight",
        "layers.3.bias",
    }


def test_dfr_leaves_no_hook(plain: PreTrainedModel):
    assert not any(module._forward_hooks for module in BASELINES["dfr"](plain).modules())


def test_dfr_is_logistic_regression_on_standardised_features(plain: PreTrainedModel):
    """Of groups of one size every balanced subsample is the same, so the average is one regression, computed here from the weights."""
    balanced = GROUP_LABELLED.take(balanced_rows(GROUP_LABELLED, np.random.default_rng(0)))
    hidden = plain.layers[1]

    def features(labelled: LabelledPictures) -> np.ndarray:
        flat = labelled.pictures.reshape(len(labelled), -1) / 255 * (MOST - LEAST) + LEAST
        return np.maximum(flat @ hidden.weight.detach().numpy().T + hidden.bias.detach().numpy(), 0)

    trained_on = features(PROBLEM.train)
    mean, deviation = trained_on.mean(axis=0), trained_on.std(axis=0)
    deviation[deviation == 0] = 1
    fitted, shown = (features(labelled) - mean for labelled in (balanced, PROBLEM.test))
    predicted = predict(
        deep_feature_reweighting(plain, PROBLEM, balanced, seed=0), to_pixels(PROBLEM.test.pictures)
    ).numpy()
    agreements = []
    for inverse_penalty in INVERSE_PENALTIES:
        decisions = [
            LogisticRegression(C=inverse_penalty, l1_ratio=1, solver="liblinear", random_state=0)
            .fit(fitted / deviation, balanced.labels == label)
            .decision_function(shown / deviation)
            for label in range(CLASSES)
        ]
        agreements.append((np.argmax(decisions, axis=0) == predicted).mean())
    assert max(agreements) > 0.99
    assert min(agreements) < 0.9


def test_weight_decay_makes_weights_smaller_and_keeps_what_validation_shows(plain: PreTrainedModel):
    model = BASELINES["l2"](plain)
    assert squared_size(model) < squared_size(plain) / 2
    assert accuracy(model, PROBLEM.validation) >= accuracy(plain, PROBLEM.validation) - 0.05


def test_a_group_of_one_picture_is_refused(plain: PreTrainedModel):
    alone = join(draw(60, seed=3), draw(1, seed=4, is_lying=True))
    for baseline in (
        lambda: subsample_groups(plain, PROBLEM, alone, STEPS, seed=0),
        lambda: deep_feature_reweighting(plain, PROBLEM, alone, seed=0),
    ):
        with pytest.raises(ValueError, match="two pictures or more of every group"):
            baseline()


def test_dfr_refuses_pictures_that_lack_a_class(plain: PreTrainedModel):
    without = GROUP_LABELLED.take(np.flatnonzero(GROUP_LABELLED.labels > 0))
    with pytest.raises(ValueError, match="every class"):
        deep_feature_reweighting(plain, PROBLEM, without, seed=0)


def test_dfr_refuses_a_net_without_a_last_linear_layer(plain: PreTrainedModel):
    other = copy.deepcopy(plain)
    other.layers[3] = nn.Identity()
    with pytest.raises(ValueError, match=r"nn\.Linear"):
        deep_feature_reweighting(other, PROBLEM, GROUP_LABELLED, seed=0)


def squared_size(model: PreTrainedModel) -> float:
    return sum(float(weight.detach().square().sum()) for weight in model.parameters())

"""The swap: what moves, what stays, what is counted. The classifiers are closed forms, so the numbers are known beforehand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import (
    SWAPS_PER_PICTURE,
    Evidence,
    compare_reliance,
    make_swaps,
    measure,
    measure_reliance,
    predict,
)
from services.trainer.domain.gate import decide
from services.trainer.domain.pictures import Pictures, move_regions
from tests.unit.trainer.shortcut_set import CLASSES, SIDE, make_pictures, take


class _ReadsOnePixel(nn.Module):
    """Predicts the class whose number is written in one pixel."""

    device = torch.device("cpu")

    def __init__(self, row: int, column: int) -> None:
        super().__init__()
        self.row, self.column = row, column
        self.config = dataclasses.make_dataclass("Config", ["num_labels"])(CLASSES)

    def forward(self, pixel_values: torch.Tensor) -> ImageClassifierOutput:
        written = pixel_values[:, 0, self.row, self.column]
        return ImageClassifierOutput(logits=-(written[:, None] - torch.arange(CLASSES)).square())


class _Says(nn.Module):
    """The same logits of every picture."""

    device = torch.device("cpu")

    def __init__(self, logits: tuple[float, ...]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.config = dataclasses.make_dataclass("Config", ["num_labels"])(len(logits))

    def forward(self, pixel_values: torch.Tensor) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=self.logits + 0 * pixel_values[:, 0, 0, :1])


def _written(labels: list[int]) -> Pictures:
    """The class stands in the corner (masked as spurious) and in the last pixel (not masked)."""
    pixels = torch.zeros((len(labels), 1, SIDE, SIDE))
    numbers = torch.tensor(labels)
    pixels[:, 0, 0, 0] = pixels[:, 0, -1, -1] = numbers.float()
    masks = torch.zeros((len(labels), SIDE, SIDE), dtype=torch.bool)
    masks[:, :2, :2] = True
    return Pictures(pixels, numbers, masks)


HELD_OUT = _written([0, 1, 2] * 5)


def test_a_model_that_reads_the_region_follows_every_swap():
    evidence = measure(_ReadsOnePixel(0, 0), HELD_OUT, HELD_OUT, make_swaps(HELD_OUT, seed=0))
    assert (evidence.accuracy, evidence.swap_accuracy, evidence.flip_rate) == (1.0, 0.0, 1.0)


def test_a_model_that_reads_the_rest_follows_none():
    evidence = measure(_ReadsOnePixel(-1, -1), HELD_OUT, HELD_OUT, make_swaps(HELD_OUT, seed=0))
    assert (evidence.accuracy, evidence.swap_accuracy, evidence.flip_rate) == (1.0, 1.0, 0.0)


def test_swap_changes_nothing_outside_both_regions_and_joins_other_classes_only():
    pictures = take(make_pictures(60, seed=0), 30)
    swaps = make_swaps(pictures, seed=1)
    outside = ~swaps.moved.masks[:, None]
    assert torch.equal(swaps.moved.pixels[outside], pictures.pixels[swaps.rows][outside])
    assert (swaps.moved.labels != swaps.donor).all()
    assert torch.equal(swaps.moved.labels, pictures.labels[swaps.rows])


def test_swap_takes_the_receivers_own_region_away_where_the_donors_lies_elsewhere():
    masks = torch.zeros((2, SIDE, SIDE), dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 0, 7] = True
    pixels = torch.zeros((2, 1, SIDE, SIDE))
    pixels[0, 0, 0, 0], pixels[1, 0, 0, 7] = 5.0, 7.0
    swaps = make_swaps(Pictures(pixels, torch.tensor([0, 1]), masks), seed=0)
    first = swaps.moved.pixels[swaps.moved.labels == 0][0, 0]
    assert (first[0, 0].item(), first[0, 7].item()) == (0.0, 7.0)


def test_a_region_that_one_class_has_comes_in_the_others_and_goes_in_its_own():
    half = dataclasses.replace(HELD_OUT, masks=HELD_OUT.masks & (HELD_OUT.labels == 0)[:, None, None])
    swaps = make_swaps(half, seed=0)
    comes, goes = swaps.donor == 0, swaps.moved.labels == 0
    assert (comes ^ goes).all()
    assert abs(int(comes.sum()) - int(goes.sum())) <= 1
    evidence = measure(_ReadsOnePixel(0, 0), half, half, swaps)
    assert (evidence.swap_accuracy, evidence.flip_rate) == (0.0, 1.0)


def test_flips_are_counted_among_pictures_that_were_right_before():
    wrong = Pictures(HELD_OUT.pixels, (HELD_OUT.labels + 1) % CLASSES, HELD_OUT.masks)
    evidence = measure(_ReadsOnePixel(0, 0), wrong, wrong, make_swaps(wrong, seed=0))
    assert (evidence.accuracy, evidence.flip_rate) == (0.0, 0.0)


def test_moved_pictures_are_made_a_few_at_a_time_and_are_the_same(monkeypatch: pytest.MonkeyPatch):
    swaps = make_swaps(HELD_OUT, seed=0)
    parts = list(swaps.split(7))
    assert {len(part) for part in parts[:-1]} == {7}
    assert torch.equal(torch.cat([part.pixels for part in parts]), swaps.moved.pixels)
    assert torch.equal(torch.cat([part.labels for part in parts]), swaps.labels)
    at_once = []
    monkeypatch.setattr("services.trainer.domain.evidence._FORWARD_BATCH", 7)
    monkeypatch.setattr(
        "services.trainer.domain.evidence.move_regions",
        lambda donors, receivers: at_once.append(len(receivers)) or move_regions(donors, receivers),
    )
    measure(_ReadsOnePixel(0, 0), HELD_OUT, HELD_OUT, make_swaps(HELD_OUT, seed=0))
    assert max(at_once) == 7
    assert sum(at_once) == SWAPS_PER_PICTURE * len(HELD_OUT)


@pytest.mark.parametrize(
    "logits",
    [(float("nan"), float("nan")), (0.0, float("nan")), (float("inf"), float("inf")), (-float("inf"), -float("inf"))],
)
def test_a_model_whose_logits_are_no_numbers_decides_nothing_and_is_refused(logits: tuple[float, float]):
    labels = torch.tensor([0] * 95 + [1] * 5)
    validation = Pictures(torch.zeros((100, 1, SIDE, SIDE)), labels)
    held_out = Pictures(HELD_OUT.pixels[:10], torch.tensor([0, 1] * 5), HELD_OUT.masks[:10])
    after = measure(_Says(logits), validation, held_out, make_swaps(held_out, seed=0))
    assert (after.accuracy, after.class_accuracy, after.swap_accuracy) == (0.0, (0.0, 0.0), 0.0)
    # Taken for class 0, which nearly all pictures are of, it would be right 95 times of 100 and after half of the swaps, and follow no region.
    before = Evidence(0.9, (0.94, 0.15), swap_accuracy=0.3, flip_rate=0.5, swap_count=200, reliance=0.5)
    assert not decide(before, after, Criteria()).is_accepted


def test_one_class_that_is_ruled_out_leaves_the_decision_to_the_others():
    assert predict(_Says((-float("inf"), 0.0)), HELD_OUT.pixels).tolist() == [1] * len(HELD_OUT)


def test_a_gradient_that_is_no_number_counts_as_resting_on_the_region():
    reference = torch.zeros((1, SIDE, SIDE))
    for value in (float("nan"), float("inf")):
        assert measure_reliance(_Linear(torch.full((CLASSES, SIDE, SIDE), value)), HELD_OUT, reference) == 1.0


@pytest.mark.parametrize(
    "held_out",
    [
        Pictures(HELD_OUT.pixels, HELD_OUT.labels),
        take(HELD_OUT, 0),
        dataclasses.replace(HELD_OUT, masks=torch.zeros_like(HELD_OUT.masks)),
        _written([1, 1, 1]),
    ],
    ids=["no masks", "no pictures", "empty masks", "one class"],
)
def test_nothing_to_swap_is_none_not_zero(held_out: Pictures):
    assert make_swaps(held_out, seed=0) is None
    evidence = measure(_ReadsOnePixel(0, 0), HELD_OUT, held_out, None)
    assert (evidence.swap_accuracy, evidence.flip_rate, evidence.swap_count) == (None, None, 0)
    assert (evidence.reliance, evidence.reliance_floor) == (None, None)


def test_class_accuracy_is_by_true_class_and_full_for_a_class_without_pictures():
    pictures = _written([0, 0, 1])
    pictures.pixels[0, 0, 0, 0] = 1.0  # one of the two zeros is read as 1
    assert measure(_ReadsOnePixel(0, 0), pictures, pictures, None).class_accuracy == (0.5, 1.0, 1.0)


class _Linear(nn.Module):
    """Logits that are linear in the pixels."""

    device = torch.device("cpu")

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)  # (class, height, width)

    def forward(self, pixel_values: torch.Tensor) -> ImageClassifierOutput:
        return ImageClassifierOutput(logits=torch.einsum("nchw,khw->nk", pixel_values, self.weight))


def test_reliance_of_a_linear_model_is_the_masked_part_of_weight_times_difference():
    generator = torch.Generator().manual_seed(0)
    model = _Linear(torch.randn((CLASSES, SIDE, SIDE), generator=generator))
    pictures, reference = make_pictures(70, seed=0), torch.rand((1, SIDE, SIDE), generator=generator)
    ratios = []
    for picture, mask in zip(pictures.pixels[:, 0], pictures.masks, strict=True):
        decided = (model.weight * picture).sum(dim=(1, 2)).argmax()
        evidence = (model.weight[decided] * (picture - reference[0])).abs()
        ratios.append((evidence[mask].sum() / evidence.sum()).item())
    assert measure_reliance(model, pictures, reference) == pytest.approx(sum(ratios) / len(ratios), abs=1e-6)


def test_reliance_is_none_of_it_all_of_it_or_the_floor():
    corner = torch.zeros((CLASSES, SIDE, SIDE))
    corner[:, :2, :2] = 1.0
    reference, flat = (
        torch.zeros((1, SIDE, SIDE)),
        dataclasses.replace(HELD_OUT, pixels=torch.ones_like(HELD_OUT.pixels)),
    )
    reliances = [measure_reliance(_Linear(weight), flat, reference) for weight in (corner, 1 - corner, corner * 0 + 1)]
    assert reliances == pytest.approx([1.0, 0.0, 4 / SIDE**2])


def test_reliance_is_compared_per_verdict_on_the_pictures_that_have_such_a_segment():
    corner = torch.zeros((CLASSES, SIDE, SIDE))
    corner[:, :2, :2] = 1.0
    before, after, reference = _Linear(corner), _Linear(1 - corner), torch.zeros((1, SIDE, SIDE))
    masks = HELD_OUT.masks.clone()
    masks[::2] = False  # these pictures have no spurious segment
    spurious = dataclasses.replace(HELD_OUT, pixels=torch.ones_like(HELD_OUT.pixels), masks=masks)
    by_verdict = {
        "SPURIOUS": spurious,
        "CORE": dataclasses.replace(spurious, masks=~HELD_OUT.masks),
        "UNSURE": dataclasses.replace(spurious, masks=torch.zeros_like(masks)),
    }
    area = 4 / SIDE**2
    assert compare_reliance(before, after, by_verdict, reference) == {
        "SPURIOUS": pytest.approx({"before": 1.0, "after": 0.0, "floor": area}),
        "CORE": pytest.approx({"before": 0.0, "after": 1.0, "floor": 1 - area}),
        "UNSURE": None,
    }

"""An alignment cut off anywhere goes on from what it wrote to the same weights; what was written for something else is refused."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from transformers import (
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from services.common.runtime.folder_store import FolderStore
from services.trainer.adapters import checkpoints as module
from services.trainer.adapters.checkpoints import KEPT_COUNT, Checkpoints, digest_inputs
from services.trainer.domain.alignment import PROBE_RATIO, Alignment, Checkpoint, align
from services.trainer.domain.fine_tuning import Recipe, Setting, fine_tune
from services.trainer.domain.job import Loss
from services.trainer.domain.losses import LOSSES
from services.trainer.domain.pictures import Pictures
from services.trainer.domain.run_state import RunState
from tests.support.full_disk import full_disk
from tests.unit.trainer.shortcut_set import CLASSES, SIDE, make_pictures, take, train_shortcut

STEPS = 60
PROBE_STEPS = round(PROBE_RATIO * STEPS)
Told = list[tuple[int, int, float]]


class _CutOff(Exception):
    pass


@dataclasses.dataclass
class _Stage:
    """An alignment of a small set whose checkpoints go through a real store."""

    root: Path
    parts: dict
    loss: Loss = Loss.RRR

    @property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(FolderStore(self.root), "job", "inputs")

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.root / "jobs" / "job" / "checkpoints").iterdir())

    def align(self, end: int | None = None, resume: Checkpoint | None = None) -> tuple[Alignment, Told]:
        """Aligned, and what was told of its steps; cut off before the step after `end`, when the checkpoint is written."""
        told: Told = []

        def cut_off(save: Callable[[], Checkpoint]) -> None:
            checkpoint = save() if end is not None else None
            if checkpoint and checkpoint.step == end:
                self.checkpoints.write(checkpoint)
                raise _CutOff

        result = align(
            **self.parts,
            step_count=STEPS,
            seed=0,
            on_step=lambda *step: told.append(step),
            recipe=Recipe(loss=LOSSES[self.loss]),
            resume=resume,
            on_checkpoint=cut_off,
        )
        return result, told

    def cut_off(self, end: int, resume: Checkpoint | None = None) -> Checkpoint:
        with pytest.raises(_CutOff):
            self.align(end, resume)
        return self.checkpoints.latest()


@pytest.fixture(scope="module")
def parts() -> dict:
    train, validation = make_pictures(200, seed=0), make_pictures(90, seed=1)
    return {
        "start": train_shortcut(train),
        "train": dataclasses.replace(train, masks=None),
        "critiqued": take(train, 60),
        "validation": dataclasses.replace(validation, masks=None),
        "held_out": take(validation, 45),
    }


@pytest.fixture
def stage(tmp_path: Path, parts: dict) -> _Stage:
    return _Stage(tmp_path, parts)


@pytest.fixture(scope="module")
def whole(parts: dict) -> tuple[Alignment, Told]:
    return _Stage(Path(), parts).align()


def _assert_same(result: Alignment, expected: Alignment) -> None:
    assert _weights_are_equal(result.model.state_dict(), expected.model.state_dict())
    assert (result.chosen, result.before, result.trials) == (expected.chosen, expected.before, expected.trials)


def _weights_are_equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def _count_trial_steps(whole: tuple[Alignment, Told]) -> int:
    return PROBE_STEPS * len(whole[0].trials)


@pytest.mark.parametrize("end", [0, 1, PROBE_STEPS - 1, PROBE_STEPS, PROBE_STEPS + 2, 2 * PROBE_STEPS])
def test_one_cut_off_in_a_trial_or_between_trials_comes_to_the_same(stage: _Stage, whole: tuple, end: int):
    resume = stage.cut_off(end)
    assert (resume.step, len(resume.trials), resume.kept) == (end, end // PROBE_STEPS, None)
    result, told = stage.align(resume=resume)
    _assert_same(result, whole[0])
    assert told == [step for step in whole[1] if step[0] > end]


@pytest.mark.parametrize("steps", [0, 3, 6, 7, 31, STEPS - 1])
def test_one_cut_off_in_the_full_run_comes_to_the_same(stage: _Stage, whole: tuple, steps: int):
    end = _count_trial_steps(whole) + steps
    resume = stage.cut_off(end)
    assert resume.trials == whole[0].trials
    assert (resume.kept is not None) == (steps >= 6)  # the first snapshot is as good as the best so far
    result, told = stage.align(resume=resume)
    _assert_same(result, whole[0])
    assert told == [step for step in whole[1] if step[0] > end]


def _make_net(name: str) -> PreTrainedModel:
    labels = {str(index): index for index in range(CLASSES)}
    named = {"label2id": labels, "id2label": {index: name for name, index in labels.items()}, "num_channels": 1}
    if name == "vit":
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        return ViTForImageClassification(ViTConfig(image_size=SIDE, patch_size=4, **sizes, **named))
    net = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], **named))
    next(net.parameters()).requires_grad_(False)  # Adam has no moments for what never gets a gradient
    return net


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_nets_with_attention_or_with_statistics_and_frozen_weights_go_on_to_the_same(tmp_path: Path, name: str):
    start, pictures = _make_net(name), make_pictures(60, seed=0)
    checkpoints = Checkpoints(FolderStore(tmp_path), "job", "inputs")

    def write_in_the_middle(save: Callable[[], RunState]) -> None:
        state = save()
        if state.step == 4:
            checkpoints.write(Checkpoint(4, (), state, None, None))

    fixed = (start, pictures, pictures, Recipe(), Setting(3e-3, 1e-2), torch.full((CLASSES,), 1 / CLASSES), 9, 0)
    *_, whole = fine_tune(*fixed, offer=write_in_the_middle)
    *_, resumed = fine_tune(*fixed, resume=checkpoints.latest().run)
    assert _weights_are_equal(resumed.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize("loss", [Loss.R4, Loss.MASK_OUT])
def test_losses_that_draw_go_on_drawing_where_they_were(tmp_path: Path, parts: dict, loss: Loss):
    stage = _Stage(tmp_path, parts, loss)
    _assert_same(stage.align(resume=stage.cut_off(20))[0], stage.align()[0])


def test_one_cut_off_again_and_again_comes_to_the_same(stage: _Stage, whole: tuple):
    resume = None
    for end in range(5, _count_trial_steps(whole) + STEPS, 17):
        resume = stage.cut_off(end, resume)
    _assert_same(stage.align(resume=resume)[0], whole[0])


def test_the_best_rank_so_far_and_the_snapshot_kept_count_on(stage: _Stage, whole: tuple):
    resume = stage.cut_off(_count_trial_steps(whole) + 7)
    best = dataclasses.replace(resume, highest=(True, True, 1.0))  # what no later snapshot comes to
    assert max(evidence.swap_accuracy for evidence in (whole[0].chosen.evidence, resume.kept[0].evidence)) < 1
    result, _ = stage.align(resume=best)
    assert result.chosen == resume.kept[0]
    assert _weights_are_equal(result.model.state_dict(), resume.kept[1])


def test_a_checkpoint_reads_back_as_it_was_and_can_be_gone_on_from_twice(stage: _Stage, whole: tuple):
    resume = stage.cut_off(_count_trial_steps(whole) + 7)
    first, again = stage.align(resume=resume)[0], stage.align(resume=resume)[0]
    _assert_same(first, again)
    assert stage.checkpoints.latest().run.schedule == resume.run.schedule


def test_the_newest_and_the_one_before_are_kept(stage: _Stage):
    checkpoint = stage.cut_off(3)
    for step in (4, 5, 1000):
        stage.checkpoints.write(dataclasses.replace(checkpoint, step=step))
    assert stage.names() == ["000000005.safetensors", "000001000.safetensors"]
    assert len(stage.names()) == KEPT_COUNT
    assert stage.checkpoints.latest().step == 1000


def test_the_same_step_again_leaves_the_checkpoint_that_is_there(stage: _Stage):
    checkpoint = stage.cut_off(3)
    stage.checkpoints.write(dataclasses.replace(checkpoint, highest=(True, True, 1.0)))
    assert stage.checkpoints.latest().highest is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no tensors",
        save({"draws": torch.zeros(1)}),
        save({"draws": torch.zeros(1)}, {"checkpoint": "{"}),
        save({"draws": torch.zeros(1)}, {"checkpoint": json.dumps({"format": 1, "inputs": "inputs"})}),
    ],
)
def test_one_that_can_not_be_read_is_refused_for_the_one_before(
    stage: _Stage, content: bytes, caplog: pytest.LogCaptureFixture
):
    stage.cut_off(3)
    (stage.root / "jobs" / "job" / "checkpoints" / "000000004.safetensors").write_bytes(content)
    assert stage.checkpoints.latest().step == 3
    assert stage.names() == ["000000003.safetensors"]
    assert [record.message for record in caplog.records] == ["checkpoint refused"]


def test_one_that_ends_too_early_is_refused(stage: _Stage):
    stage.cut_off(3)
    path = stage.root / "jobs" / "job" / "checkpoints" / "000000003.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert stage.checkpoints.latest() is None


def test_one_of_other_inputs_is_refused_and_makes_room(stage: _Stage, caplog: pytest.LogCaptureFixture):
    stage.cut_off(3)
    assert Checkpoints(FolderStore(stage.root), "job", "other").latest() is None
    assert stage.names() == []
    assert caplog.records[0].cause == "it belongs to other inputs"


def test_one_of_another_format_is_refused(stage: _Stage, monkeypatch: pytest.MonkeyPatch):
    stage.cut_off(3)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert stage.checkpoints.latest() is None


def test_a_disk_that_takes_no_checkpoint_costs_a_warning(stage: _Stage, caplog: pytest.LogCaptureFixture):
    checkpoint = stage.cut_off(3)
    with caplog.at_level(logging.WARNING), full_disk(1000):
        stage.checkpoints.write(dataclasses.replace(checkpoint, step=4))
    assert [record.message for record in caplog.records] == ["checkpoint not written"]
    assert stage.names() == ["000000003.safetensors"]  # nor a part of it
    stage.checkpoints.write(dataclasses.replace(checkpoint, step=4))
    assert stage.checkpoints.latest().step == 4


def test_the_inputs_digest_tells_all_that_a_training_rests_on_apart():
    pictures, weights = make_pictures(6, seed=0), {"weight": torch.ones(2)}
    nothing = take(pictures, 0)
    other_label, other_mask = pictures.labels.clone(), pictures.masks.clone()
    other_label[0] = (other_label[0] + 1) % 3
    other_mask[-1, -1, -1] ^= True
    parts: list[tuple[Pictures, Pictures]] = [
        (pictures, nothing),
        (nothing, pictures),
        (dataclasses.replace(pictures, labels=other_label), nothing),
        (dataclasses.replace(pictures, masks=other_mask), nothing),
        (dataclasses.replace(pictures, masks=None), nothing),
        (dataclasses.replace(pictures, pixels=pictures.pixels + 1e-6), nothing),
    ]
    digests = [digest_inputs("{}", 1000, weights, *part) for part in parts]
    digests += [
        digest_inputs("{ }", 1000, weights, *parts[0]),
        digest_inputs("{}", 1001, weights, *parts[0]),
        digest_inputs("{}", 1000, {"weight": torch.zeros(2)}, *parts[0]),
        digest_inputs("{}", 1000, {"bias": torch.ones(2)}, *parts[0]),
    ]
    assert len(set(digests)) == len(digests)
    assert digest_inputs("{}", 1000, weights, *parts[0]) == digests[0]

"""What a job trains with: the segments whose verdict is SPURIOUS, whatever else is said of them, and the loss that it asks for."""

import numpy as np
import pytest

from services.common.vision.critique import Verdict
from services.trainer.adapters.job_pictures import stack_masks
from services.trainer.domain.job import Loss
from services.trainer.domain.losses import DEFAULT_LOSS, LOSSES
from services.trainer.job_training import make_recipe
from tests.unit.trainer.made_up import SIZE, make_critique, make_request


@pytest.mark.parametrize("other", [None, *Verdict])
@pytest.mark.parametrize("verdict", Verdict)
def test_only_the_verdict_spurious_trains(verdict, other):
    first, second = make_critique().verdicts
    told = first.model_copy(update={"verdict": verdict, "judged_verdict": other, "grounded_verdict": other})
    critique = make_critique(verdicts=[told.model_dump(), second.model_dump()])
    (mask,) = stack_masks([critique], Verdict.SPURIOUS, SIZE).numpy()
    assert mask.any() == (verdict is Verdict.SPURIOUS)
    assert not mask[4:].any()
    assert np.array_equal(mask[:2, :2], np.full((2, 2), verdict is Verdict.SPURIOUS))


def test_masks_are_those_of_the_verdict_in_the_order_of_the_critiques_at_the_size_asked_for():
    bare, full = make_critique(verdicts=[], failure="unreadable"), make_critique()
    masks = stack_masks([bare, full], Verdict.CORE, (16, 16)).numpy()
    assert masks.shape == (2, 16, 16)
    assert not masks[0].any()
    assert masks[1].nonzero()[0].tolist() == [8] * 16 + [9] * 16
    assert stack_masks([], Verdict.CORE, SIZE).shape == (0, *SIZE)


@pytest.mark.parametrize("loss", Loss)
def test_a_job_trains_with_the_loss_that_it_asks_for(loss):
    assert make_recipe(make_request(loss=loss)).loss is LOSSES[loss]


def test_a_job_that_asks_for_none_trains_with_the_default():
    assert make_recipe(make_request()).loss is LOSSES[DEFAULT_LOSS]

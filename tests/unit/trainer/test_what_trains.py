"""Which segments of a critique join the mask: those whose verdict is SPURIOUS, whatever else is said of them."""

import numpy as np
import pytest

from services.common.vision.critique import Verdict
from services.trainer.training_process import _spurious_mask
from tests.unit.trainer.made_up import SIZE, make_critique


@pytest.mark.parametrize("other", [None, *Verdict])
@pytest.mark.parametrize("verdict", Verdict)
def test_only_the_verdict_spurious_trains(verdict, other):
    first, second = make_critique().verdicts
    told = first.model_copy(update={"verdict": verdict, "judged_verdict": other, "grounded_verdict": other})
    mask = _spurious_mask(make_critique(verdicts=[told.model_dump(), second.model_dump()]), SIZE)
    assert mask.any() == (verdict is Verdict.SPURIOUS)
    assert not mask[4:].any()
    assert np.array_equal(mask[:2, :2], np.full((2, 2), verdict is Verdict.SPURIOUS))

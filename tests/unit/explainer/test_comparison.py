"""What is counted of a shadow's answers."""

from __future__ import annotations

import numpy as np
import pytest

from services.explainer.domain.comparison import Comparison


def test_answers_that_are_no_numbers_count_as_failed_and_spoil_no_other():
    comparison = Comparison(1, 2, ("no", "yes"))
    champion = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [np.nan, np.nan]])
    shadow = np.array([[np.nan, np.nan], [0.6, 0.4], [0.5, np.inf], [0.6, 0.4]])
    comparison.add(champion, shadow)
    assert (comparison.failed_count, comparison.picture_count, comparison.agreement) == (3, 1, 1.0)
    assert comparison.mean_difference == pytest.approx(0.2)

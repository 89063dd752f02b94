"""Maps of a net change when its parameters do; a map that does not is found out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from services.common.vision.model_bundle import build_untrained
from services.explainer.domain.attribution import DEFAULT_METHOD, METHODS
from services.explainer.domain.randomisation import (
    MAX_RANK_CORRELATION,
    correlate_with_randomised,
    rank_correlation,
)
from tests.support.hugging_face_folders import ARCHITECTURES, EDGE_PX


class EdgeDetector:
    """Looks at the picture alone: what Adebayo et al. warn of."""

    parameters: dict[str, float | int | str] = {}  # noqa: RUF012

    def __call__(self, logits, pixel_values, targets, baselines):
        edges = (pixel_values - pixel_values.roll(1, dims=3)).abs()
        return edges, pixel_values.new_zeros(len(pixel_values))


class Nowhere(EdgeDetector):
    """The same everywhere."""

    def __call__(self, logits, pixel_values, targets, baselines):
        return torch.ones_like(pixel_values), pixel_values.new_zeros(len(pixel_values))


def correlate(architecture: str, method, seed: int = 1) -> float:
    torch.manual_seed(seed)
    model = ARCHITECTURES[architecture]().eval()
    pixels = torch.nn.functional.interpolate(torch.randn(12, 3, 8, 8), EDGE_PX, mode="bilinear")
    return correlate_with_randomised(method, model, build_untrained(model.config, 0), pixels[:4], pixels[4:])


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_maps_of_the_default_method_depend_on_the_parameters(architecture, seed):
    assert correlate(architecture, METHODS[DEFAULT_METHOD], seed) < MAX_RANK_CORRELATION / 2


@pytest.mark.parametrize("method", [EdgeDetector(), Nowhere()], ids=["edges", "nowhere"])
def test_a_map_that_does_not_look_at_the_model_comes_to_one(method):
    assert correlate("resnet", method) == pytest.approx(1)


def test_a_net_with_the_parameters_it_was_given_at_first_comes_to_one():
    model = build_untrained(ARCHITECTURES["resnet"]().config, 0)
    pixels = torch.randn(4, 3, EDGE_PX, EDGE_PX)
    again = build_untrained(model.config, 0)
    assert correlate_with_randomised(METHODS[DEFAULT_METHOD], model, again, pixels[:2], pixels[2:]) == pytest.approx(1)


def test_drawing_parameters_leaves_the_process_own_random_numbers_alone():
    config = ARCHITECTURES["resnet"]().config
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_untrained(config, 0)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_equals_scipys_with_ties(seed):
    rng = np.random.default_rng(seed)
    one, other = rng.integers(0, 6, 50).astype(float), rng.integers(0, 9, 50).astype(float)
    assert rank_correlation(one, other) == pytest.approx(scipy.stats.spearmanr(one, other).statistic)

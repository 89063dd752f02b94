"""The batched mixture against a slow second implementation and against maps whose mixture is known."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from services.explainer.domain.segmentation.mixture import (
    ITERATION_COUNT,
    RESTART_COUNT,
    SEED,
    Mixture,
    bayesian_information,
    fit_mixtures,
    grid_points,
    pixel_moments,
    spread_seeds,
)
from services.explainer.domain.segmentation.segments import (
    FIT_SIDE_PX,
    LEAST_SHARE_RATIO,
    PIXELS_AT_ONCE,
    SegmentationOptions,
    choose_mixtures,
    pool,
    segment_maps,
    smooth,
)
from tests.unit.explainer import slow_segmentation as slow


def speckled_blobs(height: int, width: int, seed: int) -> np.ndarray:
    """A signed map like an attribution: five smooth blobs of one sign or the other, times noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    field = np.zeros((height, width))
    for row, column, size, sign in zip(*rng.random((2, 5)), rng.uniform(0.03, 0.15, 5), [1, 1, 1, -1, 1], strict=True):
        field += sign * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * size**2))
    return field * rng.gamma(1.0, size=field.shape) + 0.02 * rng.normal(size=field.shape)


def sparse_digit(seed: int) -> np.ndarray:
    """28 × 28, most of it exactly zero, with a bright square."""
    rng = np.random.default_rng(seed)
    field = np.where(rng.random((28, 28)) < 0.3, rng.normal(size=(28, 28)), 0.0)
    field[24:, :4] = 2.0
    return field


def to_evidence(maps: np.ndarray) -> torch.Tensor:
    positive = np.maximum(maps, 0)
    return torch.from_numpy(positive / positive.sum(axis=(-2, -1), keepdims=True))


MAPS = {
    "digits at 28 × 28": np.stack([sparse_digit(seed) for seed in range(3)]),
    "not square": np.stack([speckled_blobs(20, 33, seed) for seed in range(3)]),
    "224 × 224": np.stack([speckled_blobs(224, 224, seed) for seed in range(2)]),
    "a side that cells do not divide": np.stack([speckled_blobs(63, 40, seed) for seed in range(2)]),
}
every_map = pytest.mark.parametrize("maps", MAPS.values(), ids=MAPS.keys())


@every_map
@pytest.mark.parametrize("component_count", [1, 3, 6])
def test_same_start_ends_at_the_slow_fit(maps, component_count):
    evidence = to_evidence(maps)
    cells = pool(evidence)
    starts = spread_seeds(cells[:, 0], component_count)[:, 1:2]
    fitted, likelihood = fit_mixtures(cells, starts)
    for row, picture in enumerate(evidence.numpy()):
        expected = slow.fit_restarts(picture, FIT_SIDE_PX, starts[row].numpy(), ITERATION_COUNT)
        assert math.isclose(likelihood[row], expected.likelihood, rel_tol=1e-9)
        np.testing.assert_allclose(fitted.shares[row], expected.shares, rtol=1e-8)
        np.testing.assert_allclose(fitted.means[row], expected.means, rtol=1e-8)
        np.testing.assert_allclose(fitted.covariances[row], expected.covariances, rtol=1e-6, atol=1e-12)


def test_likeliest_of_the_restarts_wins():
    cells = pool(to_evidence(MAPS["not square"]))
    seeds = spread_seeds(cells[:, 0], 4)
    each = torch.stack([fit_mixtures(cells, seeds[:, [restart]])[1] for restart in range(RESTART_COUNT)])
    torch.testing.assert_close(fit_mixtures(cells, seeds)[1], each.amax(dim=0))


@every_map
def test_number_of_segments_and_their_masks_are_the_slow_ones(maps):
    options = {ratio: SegmentationOptions(kept_evidence_ratio=ratio) for ratio in (0.95, 1.0)}
    found = {ratio: segment_maps(maps, chosen) for ratio, chosen in options.items()}
    smoothed = to_evidence(smooth(torch.from_numpy(maps)).clamp_min(0).numpy())
    mixtures = choose_mixtures(smoothed, 6)
    for row, evidence in enumerate(smoothed.numpy()):
        cells = slow.sum_cells(evidence, FIT_SIDE_PX)
        seeds = spread_seeds(torch.from_numpy(cells)[None], 6)[0].numpy()
        fits = [slow.fit_restarts(evidence, FIT_SIDE_PX, seeds[:, :count], ITERATION_COUNT) for count in (3, 4, 5, 6)]
        best = min(fits, key=lambda mixture: slow.information(cells, mixture))
        assert len(mixtures[row].shares) == len(best.shares)
        for ratio, segments in found.items():
            expected = slow.cut(evidence, best, ratio, LEAST_SHARE_RATIO)
            assert [segment.mask.tolist() for segment in segments[row]] == [mask.tolist() for mask in expected]


def test_seeds_are_those_of_slow_k_means():
    evidence = to_evidence(np.stack([sparse_digit(5), sparse_digit(6)]))
    draws = torch.rand(6, RESTART_COUNT, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64).numpy()
    seeds = spread_seeds(evidence, 6).numpy()
    for picture, found in zip(evidence.numpy(), seeds, strict=True):
        expected = [slow.spread_seeds(picture, draws[:, restart]) for restart in range(RESTART_COUNT)]
        np.testing.assert_array_equal(found, expected)


def test_fewer_seeds_are_the_first_of_more():
    evidence = to_evidence(sparse_digit(7)[None])
    assert torch.equal(spread_seeds(evidence, 3), spread_seeds(evidence, 6)[..., :3, :])


@every_map
def test_likelihood_never_falls_between_iterations(maps):
    cells = pool(to_evidence(maps))
    seeds = spread_seeds(cells[:, 0], 6)[:, :1]
    likelihoods = torch.stack([fit_mixtures(cells, seeds, count)[1] for count in range(25)])
    assert (likelihoods.diff(dim=0) >= -1e-12).all()


def test_density_is_the_mean_of_scipys_over_the_square():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(3, 2, 2)) * 0.2
    covariances = root @ root.transpose(0, 2, 1) + 0.01 * np.eye(2)
    shares, means = np.array([0.2, 0.3, 0.5]), generator.random((3, 2))
    mixture = Mixture(*(torch.from_numpy(part) for part in (shares, means, covariances)))
    ours = (mixture.polynomial() @ pixel_moments(5, 7)).numpy()
    fine = 200
    points = grid_points(5 * fine, 7 * fine).numpy()
    for component in range(3):
        density = multivariate_normal.logpdf(points, means[component], covariances[component])
        expected = np.log(shares[component]) + density.reshape(5, fine, 7, fine).mean(axis=(1, 3)).ravel()
        np.testing.assert_allclose(ours[component], expected, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (50, 56), (224, 200)])
def test_drawn_gaussian_is_found_again(height, width):
    mean, covariance = np.array([0.4, 0.6]), np.array([[0.008, 0.003], [0.003, 0.005]])
    density = multivariate_normal.pdf(slow.list_centres(height, width), mean, covariance).reshape(height, width)
    cells = pool(to_evidence(density[None]))
    fitted, likelihood = fit_mixtures(cells, spread_seeds(cells[:, 0], 1))
    assert float(fitted.shares) == pytest.approx(1)
    np.testing.assert_allclose(fitted.means[0, 0], mean, atol=1e-4)
    square = np.diag([1 / (12 * height**2), 1 / (12 * width**2)])
    np.testing.assert_allclose(fitted.covariances[0, 0], covariance + square, atol=1e-5)
    entropy = 1 + math.log(2 * math.pi) + 0.5 * math.log(np.linalg.det(covariance + square))
    assert float(likelihood) == pytest.approx(-entropy, abs=1e-3)


@pytest.mark.parametrize("side", [14, 60, 224])
def test_one_gaussian_on_a_uniform_map_has_the_moments_of_the_unit_square(side):
    cells = pool(to_evidence(np.ones((1, 9, side))))
    fitted, likelihood = fit_mixtures(cells, spread_seeds(cells[:, 0], 1))
    np.testing.assert_allclose(fitted.means[0, 0], [0.5, 0.5])
    np.testing.assert_allclose(fitted.covariances[0, 0], np.eye(2) / 12, atol=1e-12)
    assert float(likelihood) == pytest.approx(-math.log(2 * math.pi / 12) - 1)


@pytest.mark.parametrize("side", [24, 60, 100, 224])
def test_shares_of_two_blobs_far_apart_are_their_evidence(side):
    maps = np.zeros((1, side, side))
    unit = side // 12
    maps[0, unit : 3 * unit, unit : 3 * unit] = 3.0
    maps[0, 8 * unit : 11 * unit, 8 * unit : 10 * unit] = 1.0
    strong, weak = segment_maps(maps, SegmentationOptions(max_segments=2))[0]
    assert strong.share == pytest.approx(12 / 18, abs=1e-6)
    assert weak.share == pytest.approx(6 / 18, abs=1e-6)


@pytest.mark.parametrize("side", [28, 60, 224])
def test_cells_keep_how_much_evidence_lies_where_and_how_spread(side):
    evidence = to_evidence(speckled_blobs(side, side + 5, 3)[None])
    cells = pool(evidence)
    np.testing.assert_allclose(cells[0, 0], slow.sum_cells(evidence[0].numpy(), FIT_SIDE_PX), atol=1e-15)
    moments = evidence.flatten(1) @ pixel_moments(side, side + 5).T
    np.testing.assert_allclose(cells.sum(dim=(2, 3)), moments, atol=1e-14)


@pytest.mark.parametrize("pixel_count", [1, 2])
def test_fewer_pixels_than_components_give_a_segment_each(pixel_count):
    maps = np.zeros((1, 28, 28))
    places = [(1, 2), (25, 6)][:pixel_count]
    for place in places:
        maps[0][place] = 0.5
    segments = segment_maps(maps, SegmentationOptions())[0]
    assert [segment.share for segment in segments] == pytest.approx([1 / pixel_count] * pixel_count)
    assert sorted(tuple(np.argwhere(segment.mask)[0]) for segment in segments) == places
    assert all(segment.mask.sum() == 1 for segment in segments)


def test_uniform_map_is_shared_out_whole():
    segments = segment_maps(np.ones((1, 30, 20)), SegmentationOptions(kept_evidence_ratio=1.0))[0]
    assert sum(segment.share for segment in segments) == pytest.approx(1)
    assert sum(segment.mask.astype(int) for segment in segments).tolist() == np.ones((30, 20), dtype=int).tolist()


def test_fit_does_not_depend_on_the_neighbours():
    maps = np.stack([sparse_digit(seed) for seed in range(60)])
    together = segment_maps(maps, SegmentationOptions())
    assert len(maps) * 28 * 28 > PIXELS_AT_ONCE
    for row in (0, 30, 59):
        alone = segment_maps(maps[row : row + 1], SegmentationOptions())[0]
        assert [s.share for s in together[row]] == pytest.approx([s.share for s in alone], abs=1e-12)
        assert [s.mask.tolist() for s in together[row]] == [s.mask.tolist() for s in alone]


def test_more_components_pay_in_bic_only_when_the_evidence_has_more_pieces():
    maps = np.zeros((1, 24, 24))
    maps[0, :4, :4], maps[0, 10:20, 15:18] = 3.0, 1.0
    cells = pool(to_evidence(maps))
    seeds = spread_seeds(cells[:, 0], 5)
    scores = []
    for count in (1, 2, 5):
        mixtures, likelihood = fit_mixtures(cells, seeds[..., :count, :])
        scores.append(float(bayesian_information(cells[:, 0], likelihood, count)))
        assert float(mixtures.shares.sum()) == pytest.approx(1)
    assert scores[1] < scores[0]
    assert scores[1] < scores[2]

"""PPEPS-WGM against a slow second implementation and against maps whose pieces are known."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from services.explainer.domain.segmentation.mixture import (
    Mixture,
    bayesian_information,
    fit_mixtures,
    grid_points,
    pixel_moments,
)
from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps


def two_blobs(side: int = 24) -> np.ndarray:
    """Evidence in a bright corner block and a weaker bar."""
    evidence = np.zeros((side, side))
    evidence[:4, :4] = 3.0
    evidence[10:20, 15:18] = 1.0
    return evidence


def slow_em_step(evidence: np.ndarray, shares, means, covariances, floor) -> tuple:
    """One weighted EM step, pixel by pixel, as the formula reads."""
    height, width = evidence.shape
    points = [((row + 0.5) / height, (column + 0.5) / width) for row in range(height) for column in range(width)]
    weights = evidence.ravel() / evidence.sum()
    belonging = np.zeros((len(points), len(shares)))
    for index, point in enumerate(points):
        densities = [
            s * multivariate_normal.pdf(point, m, c) for s, m, c in zip(shares, means, covariances, strict=True)
        ]
        belonging[index] = np.array(densities) / sum(densities)
    new_shares, new_means, new_covariances = [], [], []
    for component in range(len(shares)):
        part = weights * belonging[:, component]
        mean = sum(p * np.array(x) for p, x in zip(part, points, strict=True)) / part.sum()
        spread = sum(p * np.outer(x - mean, x - mean) for p, x in zip(part, np.array(points), strict=True)) / part.sum()
        new_shares.append(part.sum())
        new_means.append(mean)
        new_covariances.append(spread + floor)
    return np.array(new_shares), np.array(new_means), np.array(new_covariances)


def test_fitted_mixture_is_a_fixed_point_of_the_slow_step():
    evidence = two_blobs(12)
    probability = torch.from_numpy(evidence / evidence.sum())[None]
    mixture, _ = fit_mixtures(probability, 2)
    floor = np.diag([1 / (12 * 12**2)] * 2)
    fitted = (mixture.shares[0].numpy(), mixture.means[0].numpy(), mixture.covariances[0].numpy())
    for ours, slow in zip(fitted, slow_em_step(evidence, *fitted, floor), strict=True):
        assert np.allclose(ours, slow, atol=1e-6)


def test_density_equals_scipys():
    generator = np.random.default_rng(0)
    root = generator.normal(size=(3, 2, 2)) * 0.2
    covariances = root @ root.transpose(0, 2, 1) + 0.01 * np.eye(2)
    shares, means = np.array([0.2, 0.3, 0.5]), generator.random((3, 2))
    mixture = Mixture(*(torch.from_numpy(part) for part in (shares, means, covariances)))
    ours = mixture.log_joint(pixel_moments(5, 7)).numpy()
    points = grid_points(5, 7).numpy()
    for component in range(3):
        expected = np.log(shares[component]) + multivariate_normal.logpdf(
            points, means[component], covariances[component]
        )
        assert np.allclose(ours[:, component], expected, atol=1e-9)


def test_shares_are_the_evidence_of_each_piece():
    segments = segment_maps(two_blobs()[None], SegmentationOptions(max_segments=2))[0]
    assert [round(segment.share, 2) for segment in segments] == [round(48 / 78, 2), round(30 / 78, 2)]
    assert segments[0].mask[:4, :4].all()
    assert segments[0].mask.sum() == 16


def test_negative_evidence_is_no_evidence():
    assert segment_maps(-two_blobs()[None], SegmentationOptions()) == [[]]
    assert segment_maps(np.zeros((1, 8, 8)), SegmentationOptions()) == [[]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_map_that_is_not_finite_gives_no_segment(bad):
    evidence = two_blobs()
    evidence[0, 0] = bad
    assert segment_maps(evidence[None], SegmentationOptions()) == [[]]


def test_segments_do_not_overlap_and_count_from_the_largest():
    evidence = np.random.default_rng(0).random((3, 20, 30)) ** 4
    for segments in segment_maps(evidence, SegmentationOptions()):
        assert sum(segment.mask.astype(int) for segment in segments).max() == 1
        assert [segment.index for segment in segments] == list(range(1, len(segments) + 1))
        assert [s.share for s in segments] == sorted((s.share for s in segments), reverse=True)


def test_whole_evidence_kept_is_the_literal_tiling():
    segments = segment_maps(two_blobs()[None] + 1e-6, SegmentationOptions(max_segments=2, kept_evidence_ratio=1.0))[0]
    assert sum(segment.mask.astype(int) for segment in segments).min() == 1


def test_mask_is_the_smallest_set_that_keeps_its_share():
    evidence = np.random.default_rng(1).random((1, 16, 16)) ** 3
    for segment in segment_maps(evidence, SegmentationOptions(max_segments=1, kept_evidence_ratio=0.8))[0]:
        inside, outside = evidence[0][segment.mask], evidence[0][~segment.mask]
        assert inside.min() >= outside.max()
        assert inside.sum() >= 0.8 * evidence.sum() > inside.sum() - inside.min()


def test_picture_is_cut_the_same_alone_and_in_a_batch():
    evidence = np.random.default_rng(2).random((5, 14, 14)) ** 4
    together, alone = (
        segment_maps(evidence, SegmentationOptions())[3],
        segment_maps(evidence[3:4], SegmentationOptions())[0],
    )
    assert [(s.share, s.mask.tobytes()) for s in together] == [(s.share, s.mask.tobytes()) for s in alone]


def test_more_components_pay_in_bic_only_when_the_evidence_has_more_pieces():
    evidence = torch.from_numpy(two_blobs() / two_blobs().sum())[None]
    scores = []
    for count in (1, 2, 5):
        mixtures, likelihood = fit_mixtures(evidence, count)
        scores.append(float(bayesian_information(evidence, likelihood, count)))
        assert torch.isclose(mixtures.shares.sum(), torch.tensor(1.0, dtype=torch.float64))
    assert scores[1] < scores[0]

"""What segments are, on maps whose pieces are known."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps, smooth


def two_blobs(side: int = 24) -> np.ndarray:
    """Evidence in a bright corner block and a weaker bar."""
    evidence = np.zeros((side, side))
    evidence[:4, :4] = 3.0
    evidence[10:20, 15:18] = 1.0
    return evidence


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


def test_smoothing_is_a_gaussian_kernel_by_the_maps_size():
    maps = np.random.default_rng(0).normal(size=(2, 224, 150))
    expected = ndimage.gaussian_filter(maps, (0, 2, 2), mode="mirror", truncate=3)
    assert np.allclose(smooth(torch.from_numpy(maps)).numpy(), expected, atol=1e-12)


def test_small_maps_are_not_smoothed():
    maps = torch.rand((1, 28, 55), dtype=torch.float64)
    assert torch.equal(smooth(maps), maps)


def test_speckle_around_a_mark_does_not_get_into_its_segment():
    maps = np.random.default_rng(0).normal(size=(1, 112, 112))
    maps[0, 8:18, 90:100] += 4
    mark = np.zeros((112, 112), dtype=bool)
    mark[8:18, 90:100] = True
    best = max(
        (segment.mask & mark).sum() / (segment.mask | mark).sum()
        for segment in segment_maps(maps, SegmentationOptions())[0]
    )
    assert best > 0.5

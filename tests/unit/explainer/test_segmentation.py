"""What segments are, on maps whose pieces are known."""

import numpy as np
import pytest

from services.explainer.domain.segmentation.segments import SegmentationOptions, segment_maps


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

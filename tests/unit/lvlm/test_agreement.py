"""What a segment is by the regions under it, and by judge and regions together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.vision.critique import RleMask, Verdict
from services.common.vision.masks import encode_mask
from services.common.vision.typed_rules import Polarity
from services.lvlm.domain.agreement import Looked, agree, judge_by_regions, tell
from services.lvlm.domain.boxes import PixelBox
from services.lvlm.domain.regions import Grounded, GroundingState, RefinedBox

SIZE = (4, 8)
MUST, MUST_NOT = Polarity.MUST, Polarity.MUST_NOT
SPURIOUS, CORE, UNSURE, FAILED = Verdict.SPURIOUS, Verdict.CORE, Verdict.UNSURE, Verdict.FAILED
SEGMENT = np.zeros(SIZE, bool)
SEGMENT[:, :4] = True


def found(polarity: Polarity, columns: slice) -> Looked:
    """A phrase found in all rows of some columns; the segment lies in columns 0 to 4."""
    mask = np.zeros(SIZE, bool)
    mask[:, columns] = True
    box = RefinedBox(PixelBox(0, columns.start, SIZE[0], columns.stop), is_whole=False)
    rle = RleMask(counts=encode_mask(mask), size=SIZE)
    return Looked(polarity, Grounded("thing", GroundingState.FOUND, (box,), rle))


def absent(polarity: Polarity) -> Looked:
    return Looked(polarity, Grounded("thing", GroundingState.ABSENT))


def failed(polarity: Polarity) -> Looked:
    return Looked(polarity, Grounded("thing", GroundingState.FAILED, failure="hm"))


ALL, HALF, LESS, BESIDE = slice(0, 4), slice(0, 2), slice(0, 1), slice(4, 8)

TABLE = {
    "in what must not matter": ([found(MUST_NOT, ALL), absent(MUST)], SPURIOUS),
    "half in what must not matter": ([found(MUST_NOT, HALF), found(MUST, BESIDE)], SPURIOUS),
    "less than half in it": ([found(MUST_NOT, LESS), absent(MUST)], UNSURE),
    "half by two phrases together": ([found(MUST_NOT, slice(0, 1)), found(MUST_NOT, slice(3, 4))], SPURIOUS),
    "in what must matter": ([found(MUST, ALL), absent(MUST_NOT)], CORE),
    "half in what must matter": ([found(MUST, HALF), found(MUST_NOT, BESIDE)], CORE),
    "in both": ([found(MUST, ALL), found(MUST_NOT, HALF)], UNSURE),
    "half in each": ([found(MUST, HALF), found(MUST_NOT, slice(2, 4))], UNSURE),
    "in neither": ([found(MUST, BESIDE), found(MUST_NOT, BESIDE)], UNSURE),
    "all absent": ([absent(MUST), absent(MUST_NOT)], UNSURE),
    "one polarity only, in it": ([found(MUST_NOT, ALL)], SPURIOUS),
    "one polarity only, beside it": ([found(MUST, BESIDE)], UNSURE),
    "spurious, but what must matter failed": ([found(MUST_NOT, ALL), failed(MUST)], UNSURE),
    "core, but what must not matter failed": ([found(MUST, ALL), failed(MUST_NOT)], UNSURE),
    "spurious, another of its kind failed": ([found(MUST_NOT, ALL), failed(MUST_NOT), absent(MUST)], SPURIOUS),
    "beside, and its own kind failed": ([found(MUST_NOT, BESIDE), failed(MUST_NOT), absent(MUST)], UNSURE),
    "all failed": ([failed(MUST), failed(MUST_NOT)], UNSURE),
}


@pytest.mark.parametrize("case", TABLE)
def test_segment_is_what_the_regions_under_it_are(case):
    looked, verdict = TABLE[case]
    assert judge_by_regions([SEGMENT], looked) == [verdict]


def test_segment_without_pixels_lies_in_nothing():
    assert judge_by_regions([np.zeros(SIZE, bool)], [found(MUST_NOT, ALL)]) == [UNSURE]


columns = st.tuples(st.integers(0, 7), st.integers(1, 8)).filter(lambda pair: pair[0] < pair[1])
anything_looked = st.one_of(
    st.builds(lambda polarity, pair: found(polarity, slice(*pair)), st.sampled_from(Polarity), columns),
    st.builds(absent, st.sampled_from(Polarity)),
    st.builds(failed, st.sampled_from(Polarity)),
)


@given(st.lists(anything_looked, max_size=5), columns, st.data())
def test_verdict_that_stands_with_a_failed_phrase_stands_wherever_it_would_have_been_found(looked, place, data):
    """A failed phrase could have been anywhere: no SPURIOUS or CORE may hang on where."""
    (verdict,) = judge_by_regions([SEGMENT], looked)
    resolved = [
        data.draw(st.sampled_from([found(item.polarity, slice(*place)), absent(item.polarity)]))
        if item.grounded.state is GroundingState.FAILED
        else item
        for item in looked
    ]
    if verdict is not UNSURE:
        assert judge_by_regions([SEGMENT], resolved) == [verdict]


@pytest.mark.parametrize(
    ("judged", "grounded", "verdict"),
    [
        (SPURIOUS, SPURIOUS, SPURIOUS),
        (CORE, CORE, CORE),
        (UNSURE, UNSURE, UNSURE),
        (SPURIOUS, CORE, UNSURE),
        (CORE, SPURIOUS, UNSURE),
        (SPURIOUS, UNSURE, UNSURE),
        (UNSURE, SPURIOUS, UNSURE),
        (CORE, UNSURE, UNSURE),
        (UNSURE, CORE, UNSURE),
        (FAILED, SPURIOUS, UNSURE),
        (FAILED, UNSURE, UNSURE),
    ],
)
def test_verdict_is_what_both_say_else_unsure(judged, grounded, verdict):
    assert agree(judged, grounded) is verdict


def test_reasons_name_every_phrase_and_what_came_of_it():
    whole = RefinedBox(PixelBox(0, 0, 2, 2), is_whole=True)
    told = tell(
        [
            Looked(MUST_NOT, Grounded("the grey square", GroundingState.FOUND, (whole, whole))),
            Looked(MUST, Grounded("the strokes", GroundingState.ABSENT)),
            Looked(MUST, Grounded("the ink", GroundingState.FAILED, failure="no JSON list of boxes")),
        ]
    )
    assert told.splitlines() == [
        'MUST_NOT "the grey square": found, boxes: 2, taken whole: 2',
        'MUST "the strokes": absent',
        'MUST "the ink": failed, no JSON list of boxes',
    ]

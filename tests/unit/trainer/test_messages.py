"""What is asked for on the queue arrives as it would over gRPC, and a job says what was asked for."""

from __future__ import annotations

from typing import Any

import pytest

from plumbline.common.v1 import vision_pb2
from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.errors import InvalidInput
from services.common.vision.typed_rules import MaskSource
from services.trainer.adapters.job_record import JobRecord
from services.trainer.handlers.watching import JobView
from services.trainer.messages import read_submission_json, write_alignment
from tests.unit.trainer.made_up import RULES, make_request

RULES_JSON = [
    {"className": "all", "concept": "stripe", "polarity": "POLARITY_MUST", "nounPhrases": ["the stripe"]},
    {
        "class_name": "all",
        "concept": "block",
        "polarity": "POLARITY_MUST_NOT",
        "noun_phrases": ["the block in the corner"],
    },
]
REQUEST = {
    "model": {"name": "stripes"},
    "datasetPath": "set",
    "specification": {"task": "t", "rules": [{"className": "all", "shouldMatter": "the stripe"}]},
}


def test_the_way_to_masks_and_the_rules_come_with_the_json_form():
    submission = read_submission_json(REQUEST | {"maskSource": "MASK_SOURCE_AGREED", "rules": RULES_JSON})
    assert (submission.mask_source, submission.typed_rules) == (MaskSource.AGREED, RULES)


def test_a_request_that_names_no_way_to_masks_is_judged():
    submission = read_submission_json(REQUEST)
    assert (submission.mask_source, submission.typed_rules) == (MaskSource.JUDGED, ())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"maskSource": "agreed"}, "request"),
        ({"maskSource": 9}, "mask_source"),
        ({"rules": [{"className": "all", "polarity": "POLARITY_MUST"}]}, "rules[0].noun_phrases"),
        ({"rules": [RULES_JSON[0], {"className": "all", "nounPhrases": ["x"]}]}, "rules[1].polarity"),
        ({"rules": [RULES_JSON[0] | {"nounPhrases": ["x", " "]}]}, "rules[0].noun_phrases[1]"),
        ({"rules": [RULES_JSON[0] | {"concept": "x" * 201}]}, "rules[0].concept"),
        ({"rules": RULES_JSON * 501}, "rules"),
    ],
)
def test_a_wrong_way_or_rule_is_named(change: dict[str, Any], field: str):
    with pytest.raises(InvalidInput) as caught:
        read_submission_json(REQUEST | change)
    assert caught.value.field == field


@pytest.mark.parametrize("mask_source", MaskSource)
def test_a_job_says_its_way_to_masks_and_its_rules(tmp_path, mask_source: MaskSource):
    job = JobRecord(ArtifactStore(tmp_path)).file(make_request(mask_source=mask_source, typed_rules=RULES))
    told = write_alignment(JobView(job, None, None, {}))
    assert vision_pb2.MaskSource.Name(told.mask_source) == f"MASK_SOURCE_{mask_source}"
    assert [(rule.class_name, rule.concept, list(rule.noun_phrases)) for rule in told.rules] == [
        ("all", "stripe", ["the stripe"]),
        ("all", "block", ["the block in the corner"]),
    ]

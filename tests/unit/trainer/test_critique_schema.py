"""The schema in docs/ is the code's."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from services.common.vision.critique import CritiqueBatch
from services.trainer.critique_schema import render_schema

SCHEMA = Path(__file__).parents[3] / "docs" / "critique-batch.schema.json"
QUEUES = SCHEMA.with_name("queues.md")


def _documented_batch() -> dict:
    """The example batch of docs/queues.md: the first JSON block that names critiques."""
    blocks = [part.split("```")[0] for part in QUEUES.read_text().split("```json\n")[1:]]
    return next(content for content in map(json.loads, blocks) if "critiques" in content)


def test_schema_in_docs_is_current():
    hint = "run: python -m services.trainer.critique_schema > docs/critique-batch.schema.json"
    assert SCHEMA.read_text() == render_schema(), hint


def test_schema_takes_the_documented_batch():
    jsonschema.validate(_documented_batch(), json.loads(render_schema()))


def test_verdicts_of_both_ways_are_taken_and_may_be_missing():
    batch = _documented_batch()
    verdict = batch["critiques"][0]["verdicts"][0]
    assert "judged_verdict" not in CritiqueBatch.model_validate(batch).model_dump_json()
    verdict |= {"verdict": "UNSURE", "judged_verdict": "SPURIOUS", "grounded_verdict": "CORE"}
    jsonschema.validate(batch, json.loads(render_schema()))
    assert CritiqueBatch.model_validate(batch).model_dump(mode="json")["critiques"][0]["verdicts"][0] == verdict


def test_schema_refuses_an_unknown_verdict():
    batch = _documented_batch()
    batch["critiques"][0]["verdicts"][0]["verdict"] = "PROBABLY"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(batch, json.loads(render_schema()))

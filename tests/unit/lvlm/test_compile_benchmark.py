"""The hand-written sentences are sound, and the score says what it says it says."""

import json

import pytest

from benchmarks.lvlm.compiling import CASES, Case, ask, load_cases, score
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.domain.compiling import check_request
from services.lvlm.nano import things
from tests.support.fakes import ScriptedEngine

GROUPS = load_cases(CASES)
ALL = [case for group in GROUPS.values() for case in group]


def case_of(text: str) -> Case:
    return next(case for case in ALL if case.told.text == text)


RULER, IGNORE = case_of("The lesion, not the ruler."), case_of("Ignore the ruler.")
NOTHING = case_of("We trust you.")


async def scored(cases: list[Case], *said: dict | str) -> dict:
    left = [each if isinstance(each, str) else json.dumps(each) for each in said]
    engine = ScriptedEngine(lambda question: left.pop(0) if len(left) > 1 else left[0])
    return score(await ask(engine, load_profile("nano"), 0, cases))


def rules(must: dict[str, str], must_not: dict[str, str]) -> dict:
    sides = {"must": must, "must_not": must_not}
    return {key: [{"concept": name, "phrase": words} for name, words in side.items()] for key, side in sides.items()}


def test_there_are_forty_cases_and_no_sentence_twice():
    assert len(ALL) >= 40
    assert len({case.told.text for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.told.text)
def test_case_is_a_sound_request_in_the_embedded_models_concepts(case):
    check_request("", [case.told.class_name], [case.told])
    known = {*things.CONCEPTS.values(), things.ANY_MARK_CONCEPT, things.UNKNOWN_CONCEPT}
    assert {concept for _, concept in case.expected} <= known
    assert bool(case.expected) != case.is_refused


async def test_right_reading_scores_one():
    found = await scored([RULER], rules({"lesion": "The lesion"}, {"ruler": "the ruler"}))
    ratios = [found[f"{name}_ratio"] for name in ("precision", "recall", "exact", "read_at_once", "verbatim")]
    assert ratios == [1.0] * 5
    assert (found["opposite_ratio"], found["refused_ratio"], found["rightly_refused_ratio"]) == (0.0, 0.0, None)


async def test_wrong_side_is_counted_as_such():
    found = await scored([IGNORE], rules({"ruler": "the ruler"}, {}))
    assert (found["precision_ratio"], found["recall_ratio"], found["opposite_ratio"]) == (0.0, 0.0, 1.0)


async def test_missed_concept_costs_recall_and_an_added_one_precision():
    missed = await scored([RULER], rules({"lesion": "The lesion"}, {}))
    assert (missed["precision_ratio"], missed["recall_ratio"], missed["exact_ratio"]) == (1.0, 0.5, 0.0)
    added = await scored([IGNORE], rules({}, {"ruler": "the ruler", "unknown": "Ignore"}))
    assert (added["precision_ratio"], added["recall_ratio"]) == (0.5, 1.0)


async def test_invented_phrase_is_seen_though_the_second_answer_was_sound():
    found = await scored([IGNORE], rules({}, {"ruler": "the scale"}), rules({}, {"ruler": "the ruler"}))
    assert (found["verbatim_ratio"], found["read_at_once_ratio"], found["exact_ratio"]) == (0.0, 0.0, 1.0)


async def test_refusals_count_for_where_there_is_nothing_and_against_elsewhere():
    found = await scored([NOTHING, IGNORE], rules({}, {}))
    assert (found["refused_ratio"], found["rightly_refused_ratio"]) == (1.0, 1.0)


@pytest.mark.parametrize("said", ["hm", "[]", "{}", "3", '{"must":[3]}', '{"must":3}'])
async def test_answer_of_any_shape_can_be_scored(said):
    assert (await scored([IGNORE], said))["refused_ratio"] == 1.0

"""States and the only ways between them."""

from __future__ import annotations

import itertools

import pytest

from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.errors import WrongState
from services.trainer.domain.job import TRANSITIONS, JobState, check_transition

FINAL = {JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED, JobState.CANCELLED}


@pytest.mark.parametrize(("before", "after"), list(itertools.product(JobState, JobState)))
def test_transition_holds_exactly_when_the_table_has_it(before: JobState, after: JobState):
    if after in TRANSITIONS[before]:
        check_transition(before, after)
    else:
        with pytest.raises(WrongState, match=f"{before} can't become {after}"):
            check_transition(before, after)


def test_final_states_lead_nowhere_and_every_other_can_fail():
    assert {state for state in JobState if state.is_final} == FINAL
    assert all(JobState.FAILED in TRANSITIONS[state] for state in set(JobState) - FINAL)


def test_a_job_can_be_cancelled_until_it_is_evaluated_and_published():
    stays = {state for state in set(JobState) - FINAL if JobState.CANCELLED not in TRANSITIONS[state]}
    assert stays == {JobState.EVALUATING}
    with pytest.raises(WrongState, match="being evaluated and published; too late to cancel"):
        check_transition(JobState.EVALUATING, JobState.CANCELLED)


def test_nothing_is_published_but_through_evaluating():
    assert [state for state in JobState if JobState.PUBLISHED in TRANSITIONS[state]] == [JobState.EVALUATING]


def test_states_are_those_of_the_proto():
    names = {value.name.removeprefix("JOB_STATE_") for value in pb.JobState.DESCRIPTOR.values} - {"UNSPECIFIED"}
    assert names == {state.value for state in JobState}


def test_every_state_can_be_reached_from_queued():
    seen, front = set(), {JobState.QUEUED}
    while front:
        seen |= front
        front = {after for state in front for after in TRANSITIONS[state]} - seen
    assert seen == set(JobState)

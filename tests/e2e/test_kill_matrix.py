"""Whatever process is killed, a job ends once, with a reason, and what is served is what is on record. The whole matrix is `benchmarks/reliability`."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import pytest

from benchmarks.reliability.kill_matrix import Blow, Stack, Target, make_model, serving
from services.trainer.domain.job import JobState


def _slow(*blow: object) -> object:
    return pytest.param(Blow(*blow), marks=pytest.mark.slow)


BLOWS = (
    Blow(Target.WORKER, signal.SIGKILL, JobState.CRITIQUING),
    _slow(Target.TRITON, signal.SIGKILL, JobState.EVALUATING),
    _slow(Target.API, signal.SIGKILL, JobState.QUEUED),
    _slow(Target.CHILD, signal.SIGKILL, JobState.TRAINING),
    _slow(Target.REDIS, signal.SIGKILL, JobState.TRAINING),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("kill-matrix")
    with serving(folder / "stack", make_model(folder / "model"), seed=0) as stack:
        yield stack


@pytest.mark.timeout(400)
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: f"{blow.target} in {blow.state}".lower())
def test_a_job_outlives_the_process_that_is_killed(stack: Stack, blow: Blow):
    outcome = stack.strike(blow, random.Random(0))
    assert outcome.faults == (), outcome
    assert outcome.ended in ("PUBLISHED", "REJECTED"), outcome

"""Whatever process is killed, a job ends once, with a reason, and what is served is what is on record. The whole matrix is `benchmarks/reliability`."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator

import pytest

from benchmarks.reliability.kill_matrix import PICTURES_PER_CLASS, SHORT_WAITS, Blow, Stack, Target
from benchmarks.reliability.stage import make_model, serving
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
    model = make_model(folder / "model", PICTURES_PER_CLASS)
    with serving(folder / "stack", model, SHORT_WAITS) as layout:
        yield Stack(layout, model / "bundle", seed=0)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("blow", BLOWS, ids=lambda blow: f"{blow.target} in {blow.state}".lower())
def test_a_job_outlives_the_process_that_is_killed(stack: Stack, blow: Blow):
    outcome = stack.strike(blow, random.Random(0))
    assert outcome.faults == (), outcome
    assert outcome.ended in ("PUBLISHED", "REJECTED"), outcome

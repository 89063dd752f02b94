"""The matrix is gone on with from its result file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.reliability.kill_matrix import Outcome, read_outcomes, summarise

OUTCOMES = [
    Outcome("redis", "SIGKILL", "TRAINING", "TRAINING", "PUBLISHED", "better", 40.0, (), "0123abcd4567"),
    Outcome("lvlm", "SIGSTOP", "CRITIQUING", "QUEUED", "TRAINING", "", 300.0, ("stuck in TRAINING",), None),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "kill-matrix.json"
    file.write_text(json.dumps(summarise(OUTCOMES, seed=3)))
    return file


def test_runs_come_back_from_the_result_file_as_they_were(file: Path):
    assert read_outcomes(file, seed=3) == OUTCOMES


def test_a_new_file_has_no_runs(tmp_path: Path):
    assert read_outcomes(tmp_path / "new.json", seed=3) == []


def test_runs_of_another_seed_are_not_gone_on_with(file: Path):
    with pytest.raises(SystemExit, match="is of seed 3, expected a new file or one of seed 4"):
        read_outcomes(file, seed=4)

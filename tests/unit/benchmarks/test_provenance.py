"""What is kept of a result file."""

from pathlib import Path

import pytest

from benchmarks.provenance import write_report


def test_a_report_that_cannot_be_written_leaves_the_last_one_whole(tmp_path: Path):
    path = tmp_path / "results" / "ross.json"
    write_report(path, {"runs": 1})
    kept = path.read_text()

    with pytest.raises(TypeError):
        write_report(path, {"runs": object()})

    assert path.read_text() == kept
    assert list(path.parent.iterdir()) == [path]


def test_a_report_replaces_the_last_one(tmp_path: Path):
    path = tmp_path / "ross.json"
    write_report(path, {"runs": 1, "note": "much longer than what comes after it"})
    write_report(path, {"runs": 2})

    assert path.read_text() == '{\n "runs": 2\n}\n'

"""How the command line tells failures."""

import pytest
import typer

from plumbline.cli.session import failures_told


def test_expected_failure_is_told_in_one_line_with_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as left, failures_told():
        raise OSError("the disk is full")
    assert left.value.exit_code == 1
    assert capsys.readouterr().err.strip() == "error: the disk is full"


def test_command_that_has_said_why_it_leaves_says_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), failures_told():
        raise typer.Exit(1)
    assert capsys.readouterr().err == ""


def test_bug_keeps_its_stack() -> None:
    with pytest.raises(ZeroDivisionError), failures_told():
        1 / 0  # noqa: B018

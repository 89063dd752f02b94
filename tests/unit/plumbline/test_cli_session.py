"""How the command line tells failures."""

from pathlib import Path

import pytest
import typer

from plumbline.cli.session import Session, failures_told


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


def test_certificates_that_are_named_in_part_are_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PLUMBLINE_CERTIFICATE", str(tmp_path / "tls.crt"))
    with pytest.raises(typer.Exit), failures_told():
        Session(tmp_path, "a:1", "b:1", "c:1").client()
    assert capsys.readouterr().err.startswith("error: PLUMBLINE_KEY: not set")

"""Every alert leads to a runbook, and what a runbook says to do can be done."""

from __future__ import annotations

import re
import shlex

import pytest
import typer.main
import yaml

from plumbline.cli import app
from tests.support.manifests import K8S, ROOT, render

PAGE = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = sorted({line.strip() for line in PAGE.splitlines() if line.startswith("    ")})


def anchors(text: str) -> set[str]:
    """Of headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def load_alerts() -> dict[str, dict]:
    content = yaml.safe_load((K8S / "components" / "monitoring" / "alerts.yaml").read_text())
    return {rule["alert"]: rule for group in content["spec"]["groups"] for rule in group["rules"]}


ALERTS = load_alerts()


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_leads_to_the_runbook_that_names_it(name):
    page, _, anchor = ALERTS[name]["annotations"]["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    (section,) = [part for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:] if anchor in anchors(f"# {part}")]
    assert f"`{name}`" in section
    assert "**Over**" in section


def test_every_alert_that_the_page_names_is_one_and_every_objective_has_one():
    assert set(re.findall(r"Plumbline[A-Z]\w+", PAGE)) <= ALERTS.keys()
    objectives = PAGE.split("| Objective", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    assert len(objectives) == 7
    assert all(re.search(r"`Plumbline\w+`", row) for row in objectives)


def test_every_link_leads_somewhere():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        file = ROOT / "docs" / path if path else ROOT / "docs" / "operations.md"
        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("plumbline ")])
def test_a_command_of_ours_is_taken(line):
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)  # raises what the terminal would be told


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("kubectl ") and "-n " in line])
def test_kubectl_is_told_of_what_the_manifests_have(line):
    names = {(each["kind"], each["metadata"]["name"]) for each in render(K8S / "overlays" / "local-cpu")}
    assert "-n plumbline" in line
    for name in re.findall(r"deployment/([\w-]+)", line):
        assert ("Deployment", name) in names
    for name in re.findall(r"app\.kubernetes\.io/name=([\w-]+)", line):
        assert ("Deployment", name) in names

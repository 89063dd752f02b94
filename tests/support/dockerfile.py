"""A Dockerfile as data: its stages, and what each of them says. Takes what our own files use; anything else is refused."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = {
    "explainer": ROOT / "services" / "explainer" / "Dockerfile",
    "lvlm": ROOT / "services" / "lvlm" / "Dockerfile",
    "trainer": ROOT / "services" / "trainer" / "Dockerfile",
    "triton": ROOT / "services" / "explainer" / "triton" / "Dockerfile",
}
"""By the image's name."""
_STEPS = {"ARG", "WORKDIR", "RUN", "COPY", "ENV", "USER", "EXPOSE", "ENTRYPOINT"}


@dataclass(frozen=True)
class Step:
    """One instruction: its keyword and the text after it, continued lines joined."""

    keyword: str
    text: str


@dataclass(frozen=True)
class Stage:
    """What stands below one FROM."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def texts(self, keyword: str) -> list[str]:
        """The texts of all steps of one kind, in order."""
        return [step.text for step in self.steps if step.keyword == keyword]

    def arguments(self) -> dict[str, str]:
        """Build arguments with their defaults."""
        return dict(text.partition("=")[::2] for text in self.texts("ARG"))

    def environment(self, inherited: dict[str, str]) -> dict[str, str]:
        """The variables of a container, on top of those of the base image."""
        held = dict(inherited)
        for text in self.texts("ENV"):
            for name, value in (word.split("=", 1) for word in shlex.split(text)):
                held[name] = re.sub(r"\$(\w+)", lambda match: held[match[1]], value)
        return held

    def entrypoint(self) -> list[str]:
        """The words of the command that a container runs."""
        return json.loads(self.texts("ENTRYPOINT")[-1])


def read_dockerfile(path: Path) -> list[Stage]:
    """The stages of a Dockerfile, arguments before the first put into their bases; ValueError at an instruction that is not known here."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    stages: list[Stage] = []
    bases: dict[str, str] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        keyword, _, text = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = text.partition(" AS ")
            stages.append(Stage(re.sub(r"\$\{(\w+)\}", lambda match: bases[match[1]], base), name))
        elif keyword == "ARG" and not stages:
            name, _, bases[name] = text.partition("=")
        elif keyword in _STEPS and stages:
            stages[-1].steps.append(Step(keyword, text.strip()))
        else:
            raise ValueError(f"{path}: {line!r} is not understood")
    return stages

"""Prompts as versioned files: one profile per size of model.

`profile.yaml` names, per prompt, a template with `string.Template` placeholders, the panels that go with it and the longest
answer; `examples.yaml`, where there is one, holds the judge's examples. The digest over all files of a profile travels in every critique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
from PIL import Image

from services.common.vision.class_specification import ClassRule
from services.lvlm.domain.coordinates.registry import DEFAULT_FAMILY
from services.lvlm.domain.panels import render_panels
from services.lvlm.domain.quoting import as_json, as_line

DESCRIBE, CRITIC, JUDGE = "describe", "critic", "judge"
COMPILE, GROUND, SUMMARISE = "compile", "ground", "summarise"
REQUIRED = (DESCRIBE, CRITIC, JUDGE)
OPTIONAL = (COMPILE, GROUND, SUMMARISE)


@dataclass(frozen=True)
class Prompt:
    """One kind of question."""

    template: Template
    panels: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class PromptProfile:
    """The prompts for one size of model; `unset` stands where the expert said nothing, `coordinates` names how the model writes boxes."""

    name: str
    digest: str
    size_px: int
    unset: str
    prompts: Mapping[str, Prompt]
    coordinates: str = DEFAULT_FAMILY

    def render_text(self, kind: str, **values: str | int | Sequence[str]) -> str:
        """The text of a question. Values are data: each is put in as one line, a sequence as one line for each, and as `<name>_json`
        as a JSON string; no placeholder, line end, quote or chat mark in a value does anything.

        Raises
        ------
        KeyError
            When the profile has no such prompt, or its template asks for a value that is not given.
        """
        fields: dict[str, str] = {}
        for name, value in values.items():
            lines = [str(value)] if isinstance(value, (str, int)) else value
            fields[name] = "\n".join(map(as_line, lines))
            fields[f"{name}_json"] = as_json("\n".join(lines))
        return self.prompts[kind].template.substitute(fields)

    def rule_values(self, task: str, rule: ClassRule) -> dict[str, str]:
        """What templates may say of a class's rule."""
        return {
            "task": task,
            "class_name": rule.class_name,
            "should_matter": rule.should_matter.strip() or self.unset,
            "should_not_matter": rule.should_not_matter.strip() or self.unset,
        }

    def render_images(self, kind: str, picture: np.ndarray, masks: Sequence[np.ndarray]) -> list[Image.Image]:
        """The pictures of a question; see `panels`."""
        panels = self.prompts[kind].panels
        return render_panels(picture, masks, panels, self.size_px) if panels else []

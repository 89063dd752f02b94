"""Prompts as versioned files: one profile per size of model.

`profile.yaml` names, per prompt, a template with `string.Template` placeholders, the panels that go with it and the longest
answer. The digest over all files of a profile travels in every critique.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

import numpy as np
from PIL import Image

from services.common.vision.class_specification import ClassRule
from services.lvlm.domain.panels import render_panels

DESCRIBE, CRITIC, JUDGE = "describe", "critic", "judge"


@dataclass(frozen=True)
class Prompt:
    """One kind of question."""

    template: Template
    panels: tuple[str, ...]
    max_new_tokens: int


@dataclass(frozen=True)
class PromptProfile:
    """The prompts for one size of model; `unset` stands where the expert said nothing."""

    name: str
    digest: str
    size_px: int
    unset: str
    prompts: Mapping[str, Prompt]

    def render_text(
        self, kind: str, segment_count: int, rule: ClassRule | None = None, task: str = "", critic_text: str = ""
    ) -> str:
        """The text of a question. Values are put in as they are: nothing in them is read as a placeholder."""
        values = {"segment_count": segment_count, "critic_text": critic_text, "task": task}
        if rule is not None:
            values |= {
                "class_name": rule.class_name,
                "should_matter": _one_line(rule.should_matter) or self.unset,
                "should_not_matter": _one_line(rule.should_not_matter) or self.unset,
            }
        return self.prompts[kind].template.substitute(values)

    def render_images(self, kind: str, picture: np.ndarray, masks: Sequence[np.ndarray]) -> list[Image.Image]:
        """The pictures of a question; see `panels`."""
        panels = self.prompts[kind].panels
        return render_panels(picture, masks, panels, self.size_px) if panels else []


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""A prompt profile from its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template

import yaml

from services.lvlm.domain.coordinates.registry import DEFAULT_FAMILY
from services.lvlm.domain.examples import read_examples, render_examples
from services.lvlm.domain.prompts import JUDGE, OPTIONAL, REQUIRED, Prompt, PromptProfile

EXAMPLES = "examples.yaml"
EMBEDDED = Path(__file__).parents[1] / "prompts"


def load_profile(name_or_folder: str) -> PromptProfile:
    """The embedded profile of that name, or the one in a folder of your own.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is none, a required prompt is missing, a prompt's name is unknown, or the examples are wrong: names file and entry.
    """
    embedded = EMBEDDED / name_or_folder
    folder = embedded if (embedded / "profile.yaml").is_file() else Path(name_or_folder)
    content = yaml.safe_load((folder / "profile.yaml").read_text(encoding="utf-8"))
    if missing := set(REQUIRED) - set(content["prompts"]):
        raise ValueError(f"{folder}: profile.yaml has no prompt {', '.join(sorted(missing))}")
    if unknown := set(content["prompts"]) - {*REQUIRED, *OPTIONAL}:
        raise ValueError(f"{folder}: profile.yaml has unknown prompts {', '.join(sorted(unknown))}")
    examples = _read_examples(folder / EXAMPLES)
    prompts = {
        kind: Prompt(
            _read_template(folder / entry["template"], examples if kind == JUDGE else ""),
            tuple(entry["panels"]),
            int(entry["max_new_tokens"]),
        )
        for kind, entry in content["prompts"].items()
    }
    return PromptProfile(
        content["name"],
        _digest(folder),
        int(content["size_px"]),
        content.get("unset", "-"),
        prompts,
        content.get("coordinates", DEFAULT_FAMILY),
    )


def _read_examples(path: Path) -> str:
    """The judge's examples as they stand in its prompt; empty where the profile has none."""
    if not path.is_file():
        return ""
    try:
        return render_examples(read_examples(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_template(path: Path, examples: str) -> Template:
    """The template with the examples in their place.

    Raises
    ------
    ValueError
        When there are examples and no place for them, or a place and no examples.
    """
    template = Template(path.read_text(encoding="utf-8"))
    if ("examples" in template.get_identifiers()) != bool(examples):
        wrong = (
            f"{EXAMPLES} has examples for it, but it has no $examples" if examples else f"$examples needs {EXAMPLES}"
        )
        raise ValueError(f"{path}: {wrong}")
    return Template(template.safe_substitute(examples=examples.replace("$", "$$"))) if examples else template


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            total.update(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"

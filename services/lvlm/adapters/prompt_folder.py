"""A prompt profile from its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template

import yaml

from services.lvlm.domain.prompts import OPTIONAL, REQUIRED, Prompt, PromptProfile

EMBEDDED = Path(__file__).parents[1] / "prompts"


def load_profile(name_or_folder: str) -> PromptProfile:
    """The embedded profile of that name, or the one in a folder of your own.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is none, a required prompt is missing, or a prompt's name is unknown.
    """
    embedded = EMBEDDED / name_or_folder
    folder = embedded if (embedded / "profile.yaml").is_file() else Path(name_or_folder)
    content = yaml.safe_load((folder / "profile.yaml").read_text(encoding="utf-8"))
    if missing := set(REQUIRED) - set(content["prompts"]):
        raise ValueError(f"{folder}: profile.yaml has no prompt {', '.join(sorted(missing))}")
    if unknown := set(content["prompts"]) - {*REQUIRED, *OPTIONAL}:
        raise ValueError(f"{folder}: profile.yaml has unknown prompts {', '.join(sorted(unknown))}")
    prompts = {
        kind: Prompt(
            Template((folder / entry["template"]).read_text(encoding="utf-8")),
            tuple(entry["panels"]),
            int(entry["max_new_tokens"]),
        )
        for kind, entry in content["prompts"].items()
    }
    return PromptProfile(content["name"], _digest(folder), int(content["size_px"]), content.get("unset", "-"), prompts)


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            total.update(f"{path.name}:{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"sha256:{total.hexdigest()}"

"""A prompt profile from its folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from string import Template

import yaml

from services.lvlm.domain.prompts import CRITIC, DESCRIBE, JUDGE, Prompt, PromptProfile

EMBEDDED = Path(__file__).parents[1] / "prompts"


def load_profile(name_or_folder: str) -> PromptProfile:
    """The embedded profile of that name, or the one in a folder of your own.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is none, or one of the three prompts is missing.
    """
    embedded = EMBEDDED / name_or_folder
    folder = embedded if (embedded / "profile.yaml").is_file() else Path(name_or_folder)
    content = yaml.safe_load((folder / "profile.yaml").read_text(encoding="utf-8"))
    missing = {DESCRIBE, CRITIC, JUDGE} - set(content["prompts"])
    if missing:
        raise ValueError(f"{folder}: profile.yaml has no prompt {', '.join(sorted(missing))}")
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

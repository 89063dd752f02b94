"""The prompts `nano` is trained on: the very files the service renders at run time."""

from functools import cache
from pathlib import Path
from string import Template

from services.lvlm.nano.building import ANSWER, CELL_COUNT, IMAGE
from services.lvlm.nano.sentences import Specification

PROMPTS = Path(__file__).parent.parent / "prompts" / "nano"


@cache
def load_template(name: str) -> Template:
    """Read one prompt template."""
    return Template((PROMPTS / f"{name}.txt").read_text(encoding="utf-8"))


def describe_prompt(segment_count: int) -> str:
    """Prompt that asks what is seen."""
    return load_template("describe").substitute(segment_count=segment_count)


def critic_prompt(specification: Specification, segment_count: int) -> str:
    """Prompt that asks what each segment covers and what the specification makes of it."""
    return load_template("critic").substitute(
        class_name=specification.class_name,
        should_matter=specification.should_matter.text,
        should_not_matter=specification.should_not_matter.text,
        segment_count=segment_count,
    )


def judge_prompt(specification: Specification, critic_text: str, segment_count: int) -> str:
    """Prompt that asks for verdicts on a critic's text."""
    return load_template("judge").substitute(
        class_name=specification.class_name,
        should_matter=specification.should_matter.text,
        should_not_matter=specification.should_not_matter.text,
        critic_text=critic_text,
        segment_count=segment_count,
    )


def compile_prompt(class_name: str, text: str) -> str:
    """Prompt that asks for the rules in an expert's words."""
    return load_template("compile").substitute(class_name=class_name, text=text)


def ground_prompt(phrase: str) -> str:
    """Prompt that asks where a phrase's thing is."""
    return load_template("ground").substitute(phrase=phrase)


def with_images(prompt: str, image_count: int, is_expanded: bool) -> str:
    """Close a prompt as the chat template does; expanded, each image stands with all its cells."""
    return prompt + IMAGE * image_count * (CELL_COUNT if is_expanded else 1) + ANSWER

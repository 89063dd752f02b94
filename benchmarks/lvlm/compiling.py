"""Measure how well an engine reads plain sentences, end to end through the LVLM service's own use case.

Run: python -m benchmarks.lvlm.compiling --out FILE [--cases FILE]

`compile_cases.yaml` holds sentences written by hand and the concepts that they speak for and against. Concepts go by `nano`'s names: an engine
that calls the lung a chest is wrong here, right as that may be. LVLM_* settings choose another engine than `nano`.

Ratios from 0 to 1. precision and recall: concepts with their polarity, those of all cases together. opposite: concepts found on the wrong side
alone, the harmful mistake. exact: cases with all concepts and no other. refused: cases with something to find that were refused; rightly_refused:
those with nothing, or a contradiction, that were. read_at_once: first answers that needed no second. verbatim: phrases in first answers
that stand in the sentence; an answer that is no JSON has none to count.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
import yaml

from benchmarks.provenance import where, write_report
from services.common.runtime.errors import InvalidInput
from services.common.vision.class_specification import EVERY_CLASS
from services.common.vision.typed_rules import Polarity, TypedRule
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine
from services.lvlm.domain import noun_phrases
from services.lvlm.domain.compiling import ClassSentences
from services.lvlm.domain.prompts import PromptProfile
from services.lvlm.handlers.compiling import Compiling
from services.lvlm.ports import Engine, Question
from services.lvlm.settings import LvlmSettings

CASES = Path(__file__).with_name("compile_cases.yaml")
OPPOSITE = {Polarity.MUST: Polarity.MUST_NOT, Polarity.MUST_NOT: Polarity.MUST}
Concepts = Counter[tuple[Polarity, str]]
"""Concepts by polarity; one that is meant by two rules counts twice."""


@dataclass(frozen=True)
class Case:
    """What an expert says of a class, and what a reader finds in it; `is_refused` when there is nothing sound to find."""

    told: ClassSentences
    expected: Concepts
    is_refused: bool


@dataclass(frozen=True)
class Answered:
    """A case, the engine's answers to it in order, and what the service made of them; no rules and a refusal, or rules and none."""

    case: Case
    answers: tuple[str, ...]
    rules: tuple[TypedRule, ...]
    refusal: str

    @property
    def found(self) -> Concepts:
        """The concepts of the rules."""
        return Counter((rule.polarity, rule.concept) for rule in self.rules)


class _Listening:
    """An engine that keeps the answers of another."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.model_id = engine.name, engine.model_id
        self._engine = engine
        self.answers: list[str] = []

    async def answer(self, question: Question) -> str:
        self.answers.append(await self._engine.answer(question))
        return self.answers[-1]


def load_cases(path: Path) -> dict[str, list[Case]]:
    """Cases by the part of the world that they speak of."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: [_read_case(entry) for entry in entries] for name, entries in content.items()}


def _read_case(entry: Mapping[str, Any]) -> Case:
    expected = [(Polarity.MUST, concept) for concept in entry["must"]]
    expected += [(Polarity.MUST_NOT, concept) for concept in entry["must_not"]]
    return Case(ClassSentences(entry["class"], entry["text"]), Counter(expected), entry.get("refused", False))


async def ask(engine: Engine, profile: PromptProfile, seed: int, cases: Sequence[Case]) -> list[Answered]:
    """What the service makes of every case, each in a request of its own."""
    return list(await asyncio.gather(*(_ask_one(engine, profile, seed, case) for case in cases)))


async def _ask_one(engine: Engine, profile: PromptProfile, seed: int, case: Case) -> Answered:
    listening, rules, refusal = _Listening(engine), [], ""
    names = ["other"] if case.told.class_name == EVERY_CLASS else [case.told.class_name]
    try:
        rules = await Compiling(listening, profile, seed).compile("Tell what the picture shows.", names, [case.told])
    except InvalidInput as error:
        refusal = error.message
    return Answered(case, tuple(listening.answers), tuple(rules), refusal)


def score(answered: Sequence[Answered]) -> dict[str, Any]:
    """See the module; None where there is nothing to divide by."""
    expected = sum(item.case.expected.total() for item in answered)
    found = sum(item.found.total() for item in answered)
    right = sum((item.case.expected & item.found).total() for item in answered)
    sound = [item for item in answered if not item.case.is_refused]
    unsound = [item for item in answered if item.case.is_refused]
    phrases = [stands for item in answered for stands in _first_phrases(item)]
    return {
        "cases": len(answered),
        "precision_ratio": _ratio(right, found),
        "recall_ratio": _ratio(right, expected),
        "opposite_ratio": _ratio(sum(_count_opposite(item) for item in answered), expected),
        "exact_ratio": _ratio(sum(item.found == item.case.expected for item in sound), len(sound)),
        "refused_ratio": _ratio(sum(bool(item.refusal) for item in sound), len(sound)),
        "rightly_refused_ratio": _ratio(sum(bool(item.refusal) for item in unsound), len(unsound)),
        "read_at_once_ratio": _ratio(sum(len(item.answers) == 1 for item in answered), len(answered)),
        "verbatim_ratio": _ratio(sum(phrases), len(phrases)),
    }


def _count_opposite(item: Answered) -> int:
    missed = item.case.expected - item.found
    return sum(min(count, item.found[OPPOSITE[side], concept]) for (side, concept), count in missed.items())


def _first_phrases(item: Answered) -> list[bool]:
    """Whether each phrase of the first answer stands in the sentence."""
    try:
        content = json.loads(item.answers[0])
        phrases = [str(entry["phrase"]) for entries in content.values() for entry in entries]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []
    text = noun_phrases.on_one_line(item.case.told.text)
    return [noun_phrases.find(noun_phrases.trim(phrase), text) is not None for phrase in phrases]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _explain(answered: Sequence[Answered]) -> list[dict[str, Any]]:
    """Each case that went otherwise than expected, for whoever reads the result."""
    return [
        {
            "text": item.case.told.text,
            "expected": _names(item.case.expected),
            "found": _names(item.found),
            "refusal": item.refusal,
            "first_answer": item.answers[0] if item.answers else "",
        }
        for item in answered
        if item.found != item.case.expected or bool(item.refusal) != item.case.is_refused
    ]


def _names(concepts: Concepts) -> list[str]:
    return sorted(f"{side.value.lower()} {concept}" for side, concept in concepts.elements())


async def _measure(cases: Mapping[str, Sequence[Case]]) -> dict[str, Any]:
    settings = LvlmSettings(listen="127.0.0.1:0", answer_timeout_s=3600)
    async with build_engine(settings) as engine:
        profile = load_profile(settings.profile)
        answered = {name: await ask(engine, profile, settings.seed, group) for name, group in cases.items()}
        about = where() | {"model": engine.model_id, "prompt_digest": profile.digest, "seed": settings.seed}
    everything = [item for group in answered.values() for item in group]
    scores = {name: score(group) for name, group in (answered | {"together": everything}).items()}
    return {"about": about, "sets": scores, "mistakes": _explain(everything)}


def main() -> None:
    """Measure and write one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", type=Path, default=CASES)
    arguments = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    report = asyncio.run(_measure(load_cases(arguments.cases)))
    for name, found in report["sets"].items():
        told = ", ".join(f"{key.removesuffix('_ratio')} {value}" for key, value in found.items())
        sys.stdout.write(f"{name}: {told}\n")
    write_report(arguments.out, report)


if __name__ == "__main__":
    main()

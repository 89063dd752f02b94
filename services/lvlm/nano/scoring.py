"""Scores of critic and judge against the truth of the cases."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import yaml

from services.lvlm.domain.panels import render_panels
from services.lvlm.nano import answers, prompting, things
from services.lvlm.nano.answering import Nano
from services.lvlm.nano.segments import Segments
from services.lvlm.nano.sentences import Specification

BATCH_SIZE = 32
FAILED = "FAILED"
VERDICTS = (answers.SPURIOUS, answers.CORE, answers.UNSURE)
SENTENCE = re.compile(r"Segment (\d) covers ([^.]*?)(?:, which ([^.]*))?\.")


@dataclass(frozen=True)
class Case:
    """One picture with segments, and what a user asks of it."""

    picture: np.ndarray
    segments: Segments
    seen: list[int]
    specification: Specification

    @property
    def masks(self) -> list[np.ndarray]:
        """The segments as boolean masks."""
        return [self.segments.numbers == number for number in range(1, len(self.segments.covered) + 1)]


def score(nano: Nano, cases: Sequence[Case]) -> dict[str, object]:
    """Ask critic and judge about all cases and compare, segment by segment."""
    started = time.monotonic()
    critiques, verdicts = ask(nano, cases)
    elapsed_s = time.monotonic() - started
    confusion: Counter[str] = Counter()
    by_thing: dict[str, Counter[str]] = {}
    rows = []
    for case, critique, verdict in zip(cases, critiques, verdicts, strict=True):
        said = {int(number): (name, clause) for number, name, clause in SENTENCE.findall(critique)}
        for number, codes in enumerate(case.segments.covered, start=1):
            truth = answers.verdict_of(codes, case.specification)
            given = verdict.get(str(number), FAILED)
            name = " and ".join(things.WITH_ARTICLE[code] for code in codes)
            is_seen = said.get(number, ("", ""))[0] == name
            confusion[f"{truth}->{given}"] += 1
            group = by_thing.setdefault(things.WITH_ARTICLE[codes[0]] if len(codes) == 1 else "mixed", Counter())
            group.update(count=1, right=int(truth == given), seen=int(is_seen))
            rows.append((truth == given, is_seen, {truth, given} == {answers.SPURIOUS, answers.CORE}, codes))
    named = [row for row in rows if row[3] in ((things.DIGIT,), (things.SQUARE,))]
    return {
        "pictures": len(cases),
        "segments": len(rows),
        "verdict_accuracy_ratio": _mean(row[0] for row in rows),
        "verdict_accuracy_digit_and_square_ratio": _mean(row[0] for row in named),
        "sight_accuracy_ratio": _mean(row[1] for row in rows),
        "opposite_verdict_ratio": _mean(row[2] for row in rows),
        "all_right_picture_ratio": _mean(
            all(
                verdict.get(str(number)) == answers.verdict_of(codes, case.specification)
                for number, codes in enumerate(case.segments.covered, start=1)
            )
            for case, verdict in zip(cases, verdicts, strict=True)
        ),
        "malformed_answer_ratio": _mean(not verdict for verdict in verdicts),
        "pictures_per_s": round(len(cases) / elapsed_s, 2),
        "confusion": dict(sorted(confusion.items())),
        "by_thing": {
            name: {
                "count": group["count"],
                "verdict_accuracy_ratio": round(group["right"] / group["count"], 4),
                "sight_accuracy_ratio": round(group["seen"] / group["count"], 4),
            }
            for name, group in sorted(by_thing.items())
        },
    }


def ask(nano: Nano, cases: Sequence[Case]) -> tuple[list[str], list[dict[str, str]]]:
    """Critiques and parsed verdicts; an answer that breaks the format gives an empty dictionary."""
    profile = yaml.safe_load((prompting.PROMPTS / "profile.yaml").read_text(encoding="utf-8"))
    budget = {name: entry["max_new_tokens"] for name, entry in profile["prompts"].items()}
    critiques: list[str] = []
    verdicts: list[dict[str, str]] = []
    for first in range(0, len(cases), BATCH_SIZE):
        batch = cases[first : first + BATCH_SIZE]
        panels = profile["prompts"]["critic"]["panels"]
        images = [render_panels(case.picture, case.masks, panels, profile["size_px"]) for case in batch]
        prompts = [prompting.critic_prompt(case.specification, len(case.masks)) for case in batch]
        texts = nano.answer(prompts, images, budget["critic"])
        prompts = [
            prompting.judge_prompt(case.specification, text, len(case.masks))
            for case, text in zip(batch, texts, strict=True)
        ]
        replies = nano.answer(prompts, None, budget["judge"])
        critiques += texts
        verdicts += [read_verdicts(reply, len(case.masks)) for reply, case in zip(replies, batch, strict=True)]
    return critiques, verdicts


def read_verdicts(reply: str, segment_count: int) -> dict[str, str]:
    """Parse a judge's reply strictly: exactly the segments asked for, only known verdicts."""
    try:
        verdicts = json.loads(reply)
    except ValueError:
        return {}
    numbers = {str(number) for number in range(1, segment_count + 1)}
    is_sound = isinstance(verdicts, dict) and set(verdicts) == numbers and set(verdicts.values()) <= set(VERDICTS)
    return verdicts if is_sound else {}


def _mean(values: Iterable[bool]) -> float:
    listed = [float(value) for value in values]
    return round(sum(listed) / len(listed), 4) if listed else float("nan")

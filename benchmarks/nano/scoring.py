"""Critic and judge against the truth, asked through the LVLM service's own use case and engine."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.nano.cases import Case
from services.common.vision.class_specification import EVERY_CLASS, ClassRule, ClassSpecification
from services.common.vision.critique import Critique
from services.common.vision.explanation import Segment
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine
from services.lvlm.handlers.translating import ExplainedPicture, Translating
from services.lvlm.nano import answers, things
from services.lvlm.nano.segments import PURE_RATIO, measure_shares
from services.lvlm.nano.sentences import EMPTY
from services.lvlm.settings import LvlmSettings

NO_DIGEST = "sha256:" + "0" * 64
BORDERLINE_RATIO = 0.05  # of a segment's pixels, on either side of `PURE_RATIO`
SENTENCE = re.compile(r"Segment (\d) covers ([^.]*?)(?:, which ([^.]*))?\.")


def ask(cases: Sequence[Case], threads: int = 2) -> list[Critique]:
    """A critique per case, from the engine that LVLM_* settings name; `nano` without any."""
    return asyncio.run(_ask(cases, LvlmSettings(listen="127.0.0.1:0", threads=threads, answer_timeout_s=3600)))


async def _ask(cases: Sequence[Case], settings: LvlmSettings) -> list[Critique]:
    async with build_engine(settings) as engine:
        translating = Translating(engine, load_profile(settings.profile), None, settings.seed)
        return list(await asyncio.gather(*(_translate(translating, *pair) for pair in enumerate(cases))))


async def _translate(translating: Translating, number: int, case: Case) -> Critique:
    written = case.specification
    matter, not_matter = (
        "" if field.text == EMPTY else field.text for field in (written.should_matter, written.should_not_matter)
    )
    count = len(case.covered)
    # The critic never sees a share, so an equal one does.
    segments = tuple(Segment(index, 1 / count, case.numbers == index) for index in range(1, count + 1))
    picture = ExplainedPicture(str(number), NO_DIGEST, case.picture, written.class_name, written.class_name, segments)
    rules = (ClassRule(EVERY_CLASS, matter, not_matter),)
    (critique,) = await translating.translate(NO_DIGEST, ClassSpecification("-", rules), [picture])
    return critique


@dataclass(frozen=True)
class Answered:
    """A case, its critique, and per segment what would have been right and what was said."""

    case: Case
    critique: Critique

    @property
    def truths(self) -> list[str]:
        """The verdict that each segment should have had."""
        return [answers.verdict_of(codes, self.case.specification) for codes in self.case.covered]

    @property
    def verdicts(self) -> list[str]:
        """The verdict that each segment got."""
        return [judged.verdict.value for judged in self.critique.verdicts]

    @property
    def is_right(self) -> bool:
        """Whether every segment got the right verdict."""
        return self.truths == self.verdicts


def ask_and_score(cases: Sequence[Case]) -> tuple[list[Answered], dict[str, Any]]:
    """Ask about all cases and compare, segment by segment. Ratios from 0 to 1.

    sight: the critic names exactly what the segment covers. opposite: SPURIOUS for CORE or the other way round, the harmful mistake.
    standard error: of the verdicts' accuracy, with pictures as the independent draws. borderline: segments whose foremost thing has a share
    so near to the threshold between one name and two that either would do for a reader; they count in all other figures.
    """
    started = time.monotonic()
    critiques = ask(cases)
    elapsed_s = time.monotonic() - started
    answered = [Answered(*pair) for pair in zip(cases, critiques, strict=True)]
    return answered, _score(answered) | {"pictures_per_s": round(len(cases) / elapsed_s, 2)}


def _score(answered: Sequence[Answered]) -> dict[str, Any]:
    confusion: Counter[str] = Counter()
    by_thing: dict[str, Counter[str]] = {}
    rows: list[tuple[bool, bool, bool]] = []
    borderline: list[bool] = []
    pictures: list[list[bool]] = []
    for one in answered:
        said = {int(number): name for number, name, _ in SENTENCE.findall(one.critique.reasons)}
        own = []
        foremost = measure_shares(one.case.numbers, one.case.cover).max(axis=1)
        for index, (codes, truth, given) in enumerate(zip(one.case.covered, one.truths, one.verdicts, strict=True)):
            is_seen = said.get(index + 1) == " and ".join(things.WITH_ARTICLE[code] for code in codes)
            confusion[f"{truth}->{given}"] += 1
            name = things.WITH_ARTICLE[codes[0]] if len(codes) == 1 else "two things"
            by_thing.setdefault(name, Counter()).update(count=1, right=int(truth == given), seen=int(is_seen))
            own.append((truth == given, is_seen, {truth, given} == {answers.SPURIOUS, answers.CORE}))
            if abs(foremost[index] - PURE_RATIO) < BORDERLINE_RATIO:
                borderline.append(truth == given)
        rows += own
        pictures.append([is_right for is_right, _, _ in own])
    return {
        "pictures": len(answered),
        "segments": len(rows),
        "verdict_accuracy_ratio": _mean(row[0] for row in rows),
        "verdict_standard_error": _standard_error(pictures),
        "borderline": {"count": len(borderline), "verdict_accuracy_ratio": _mean(borderline)},
        "sight_accuracy_ratio": _mean(row[1] for row in rows),
        "opposite_verdict_ratio": _mean(row[2] for row in rows),
        "all_right_picture_ratio": _mean(all(own) for own in pictures),
        "failed_picture_ratio": _mean(bool(one.critique.failure) for one in answered),
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


def _standard_error(pictures: Sequence[Sequence[bool]]) -> float:
    """Of the share of right segments; segments of one picture go wrong together."""
    right, count = (np.array([measure(own) for own in pictures], dtype=float) for measure in (sum, len))
    rest = right - count * right.sum() / count.sum()
    return round(float(np.sqrt((rest**2).sum()) / count.sum()), 4)


def _mean(values: Iterable[bool]) -> float:
    listed = [float(value) for value in values]
    return round(sum(listed) / len(listed), 4) if listed else float("nan")

"""What `nano` is taught to answer, word for word, and what its verdicts mean."""

import json
from collections.abc import Sequence

from services.lvlm.nano import things
from services.lvlm.nano.sentences import EMPTY, Specification, Told

SPURIOUS, CORE, UNSURE = "SPURIOUS", "CORE", "UNSURE"
MATTERS = "which matters"
MUST_NOT_MATTER = "which must not matter"
NOT_NAMED = "which is not named"
UNCLEAR = "which is unclear"
UNCLEAR_PHRASE = (
    "unclear"  # the answer to a phrase that names nothing known, and to any phrase about an unknown picture
)


def describe(seen: Sequence[int], covered: Sequence[Sequence[int]]) -> str:
    """Say what is in the picture and what each segment covers."""
    sentences = [f"Segment {number} covers {_name(codes)}." for number, codes in enumerate(covered, start=1)]
    return " ".join([_see(seen), *sentences])


def criticise(seen: Sequence[int], covered: Sequence[Sequence[int]], specification: Specification) -> str:
    """Say the same with what the specification makes of each segment."""
    sentences = []
    for number, codes in enumerate(covered, start=1):
        statuses = {status_of(code, specification) for code in codes}
        is_settled = len(statuses) == 1 and things.UNKNOWN not in codes
        clause = f", {statuses.pop()}" if is_settled else ""
        sentences.append(f"Segment {number} covers {_name(codes)}{clause}.")
    return " ".join([_see(seen), *sentences])


def judge(covered: Sequence[Sequence[int]], specification: Specification) -> str:
    """Verdicts as strict JSON, segment number to verdict."""
    verdicts = {str(number): verdict_of(codes, specification) for number, codes in enumerate(covered, start=1)}
    return json.dumps(verdicts, separators=(",", ":"))


def compile_rules(told: Told) -> str:
    """The phrases that an expert's words hold, for and against, as strict JSON."""
    sides = {
        name: [{"concept": concept, "phrase": phrase} for concept, phrase in pairs]
        for name, pairs in (("must", told.must), ("must_not", told.must_not))
    }
    return json.dumps(sides, separators=(",", ":"), ensure_ascii=False)


def ground(boxes: Sequence[tuple[int, int, int, int]]) -> str:
    """Boxes (x1, y1, x2, y2), 0 to 1000, as strict JSON; an empty list says that there is none."""
    return json.dumps([{"bbox_2d": list(box)} for box in boxes], separators=(",", ":"))


def status_of(code: int, specification: Specification) -> str:
    """What the specification says of one thing."""
    if not specification.is_understood:
        return UNCLEAR
    if code in specification.must_not_matter:
        return MUST_NOT_MATTER
    return MATTERS if code in specification.matters else NOT_NAMED


def verdict_of(codes: Sequence[int], specification: Specification) -> str:
    """Verdict on a segment: unanimous over what it covers, or UNSURE."""
    verdicts = {_verdict_of_thing(code, specification) for code in codes}
    return verdicts.pop() if len(verdicts) == 1 else UNSURE


def _verdict_of_thing(code: int, specification: Specification) -> str:
    if code == things.UNKNOWN:
        return UNSURE
    status = status_of(code, specification)
    if status != NOT_NAMED:
        return {MATTERS: CORE, MUST_NOT_MATTER: SPURIOUS, UNCLEAR: UNSURE}[status]
    # Named in neither field: one polarity alone settles it, both leave it open.
    if specification.should_not_matter.text == EMPTY:
        return SPURIOUS
    return CORE if specification.should_matter.text == EMPTY else UNSURE


def _see(seen: Sequence[int]) -> str:
    names = [things.SEEN_AS[code] for code in sorted(seen)]
    return f"I see {_join(names)}." if names else "I see nothing."


def _name(codes: Sequence[int]) -> str:
    return _join([things.WITH_ARTICLE[code] for code in codes])


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

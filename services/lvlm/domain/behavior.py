"""From per-picture descriptions to what the model's decisions for a class rest on.

Every number here is counted from the descriptions, and every claim names its pictures; the words for the things are the language
model's own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_COVERS = re.compile(r"\bsegment\s+(\d{1,2})\s+covers\s+(.+?)(?=[.;\n]\s*|$)", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the|some|part of(?: the)?)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class DescribedPicture:
    """One picture: its explained class, each segment's share of the evidence, and the language model's words."""

    image_id: str
    target_label: str
    shares: dict[int, float]
    text: str

    @property
    def covers(self) -> dict[int, str]:
        """What each segment covers, by its number; a segment that the text does not speak of is missing."""
        found = {int(number): thing.strip() for number, thing in _COVERS.findall(self.text)}
        return {number: thing for number, thing in found.items() if number in self.shares and thing}

    @property
    def share_by_thing(self) -> dict[str, float]:
        """Share of the evidence per thing, articles dropped: "the square" and "a square" are one."""
        shares: dict[str, float] = defaultdict(float)
        for number, thing in self.covers.items():
            shares[_ARTICLE.sub("", thing).lower()] += self.shares[number]
        return dict(shares)


@dataclass(frozen=True)
class Evidence:
    """A thing, the pictures in which it holds the largest share, and its mean share over the described pictures."""

    thing: str
    image_ids: tuple[str, ...]
    mean_share: float


@dataclass(frozen=True)
class ClassBehavior:
    """What decides for one class; `image_count` pictures could be read of those sent."""

    target_label: str
    text: str
    evidence: tuple[Evidence, ...]
    image_count: int


def summarise(pictures: Sequence[DescribedPicture]) -> list[ClassBehavior]:
    """Behaviour per explained class, by label. A picture whose description names no segment is counted as unreadable."""
    by_class: dict[str, list[DescribedPicture]] = defaultdict(list)
    for picture in pictures:
        by_class[picture.target_label].append(picture)
    return [_summarise_class(label, by_class[label]) for label in sorted(by_class)]


def _summarise_class(label: str, pictures: Sequence[DescribedPicture]) -> ClassBehavior:
    readable = [picture for picture in pictures if picture.share_by_thing]
    leaders: dict[str, list[str]] = defaultdict(list)
    sums: dict[str, float] = defaultdict(float)
    for picture in readable:
        shares = picture.share_by_thing
        leaders[max(sorted(shares), key=shares.__getitem__)].append(picture.image_id)
        for thing, share in shares.items():
            sums[thing] += share
    evidence = [Evidence(thing, tuple(leaders[thing]), sums[thing] / len(readable)) for thing in sums]
    evidence.sort(key=lambda item: (-len(item.image_ids), -item.mean_share, item.thing))
    return ClassBehavior(
        label, _put_in_words(label, evidence, len(readable), len(pictures)), tuple(evidence), len(readable)
    )


def _put_in_words(label: str, evidence: Sequence[Evidence], readable: int, sent: int) -> str:
    unread = f" ({sent - readable} of {sent} descriptions could not be read)" if readable < sent else ""
    if not readable:
        return f"class {label}: none of {sent} descriptions could be read"
    led = [item for item in evidence if item.image_ids]
    parts = [
        f"by the {item.thing} in {len(item.image_ids)} of {readable} images (mean share {item.mean_share:.2f})"
        for item in led[:3]
    ]
    return f"class {label} is decided {', '.join(parts)}{unread}"

"""From per-picture descriptions to what the model's decisions for a class rest on.

Every number here is counted from the descriptions, and every claim names its pictures; the words for the things are the language
model's own. `claims` holds a text of the language model's to what was counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.lvlm.domain.quoting import as_json

TOLD_COUNT = 3
"""Most things in the sentence that is made by program."""
TABLE_LENGTH = 12
"""Most things in the table that a language model writes from."""

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
    def segments_by_thing(self) -> dict[str, list[int]]:
        """Numbers of the segments that cover a thing, articles dropped: "the square" and "a square" are one."""
        segments: dict[str, list[int]] = defaultdict(list)
        for number, thing in self.covers.items():
            segments[_ARTICLE.sub("", thing).lower()].append(number)
        return dict(segments)

    @property
    def share_by_thing(self) -> dict[str, float]:
        """Share of the evidence per thing."""
        return {
            thing: sum(self.shares[number] for number in numbers) for thing, numbers in self.segments_by_thing.items()
        }


@dataclass(frozen=True)
class Evidence:
    """A thing of one class: where it leads, where it is covered at all, and its mean share over the described pictures.

    Segments are named "<image id>#<segment index>".
    """

    thing: str
    image_ids: tuple[str, ...]
    shown_in: tuple[str, ...]
    segments: tuple[str, ...]
    mean_share: float

    def segments_in(self, image_ids: Collection[str]) -> tuple[str, ...]:
        """Its segments in those pictures."""
        return tuple(segment for segment in self.segments if segment.rpartition("#")[0] in image_ids)


@dataclass(frozen=True)
class Claim:
    """One sentence and what bears it out: things, pictures and their segments."""

    text: str
    things: tuple[str, ...]
    image_ids: tuple[str, ...]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class ClassEvidence:
    """What was counted for one class, the thing that leads most often first, and which pictures could be read and which not."""

    target_label: str
    items: tuple[Evidence, ...]
    image_ids: tuple[str, ...]
    unread_ids: tuple[str, ...]

    @property
    def image_count(self) -> int:
        """Of pictures that could be read."""
        return len(self.image_ids)

    @property
    def unread(self) -> tuple[Claim, ...]:
        """The sentence about pictures that could not be read; none when all could."""
        sent = self.image_count + len(self.unread_ids)
        told = f"{len(self.unread_ids)} of {sent} descriptions could not be read"
        return (Claim(told, (), self.unread_ids, ()),) if self.unread_ids else ()


@dataclass(frozen=True)
class ClassBehavior:
    """What decides for one class, in words; `is_written` by the language model, else counted by program."""

    evidence: ClassEvidence
    text: str
    claims: tuple[Claim, ...]
    is_written: bool


def count_evidence(pictures: Sequence[DescribedPicture]) -> list[ClassEvidence]:
    """Evidence per explained class, by label. A picture whose description names no segment is counted as unreadable."""
    by_class: dict[str, list[DescribedPicture]] = defaultdict(list)
    for picture in pictures:
        by_class[picture.target_label].append(picture)
    return [_count_class(label, by_class[label]) for label in sorted(by_class)]


def _count_class(label: str, pictures: Sequence[DescribedPicture]) -> ClassEvidence:
    readable = [picture for picture in pictures if picture.segments_by_thing]
    leaders, shown, segments = (defaultdict[str, list[str]](list) for _ in range(3))
    sums: dict[str, float] = defaultdict(float)
    for picture in readable:
        shares = picture.share_by_thing
        leaders[max(sorted(shares), key=shares.__getitem__)].append(picture.image_id)
        for thing, share in shares.items():
            sums[thing] += share
            shown[thing].append(picture.image_id)
            segments[thing] += [f"{picture.image_id}#{number}" for number in picture.segments_by_thing[thing]]
    items = [
        Evidence(thing, tuple(leaders[thing]), tuple(shown[thing]), tuple(segments[thing]), sums[thing] / len(readable))
        for thing in sums
    ]
    items.sort(key=lambda item: (-len(item.image_ids), -item.mean_share, item.thing))
    read = [picture.image_id for picture in readable]
    unread = [picture.image_id for picture in pictures if not picture.segments_by_thing]
    return ClassEvidence(label, tuple(items), tuple(read), tuple(unread))


def tell_counts(evidence: ClassEvidence) -> ClassBehavior:
    """The counts in one sentence made by program."""
    label, count = evidence.target_label, evidence.image_count
    if not count:
        none_read = f"class {label}: none of {len(evidence.unread_ids)} descriptions could be read"
        return ClassBehavior(evidence, none_read, (Claim(none_read, (), evidence.unread_ids, ()),), False)
    told = [item for item in evidence.items if item.image_ids][:TOLD_COUNT]
    parts = [
        f"by the {item.thing} in {len(item.image_ids)} of {count} images (mean share {item.mean_share:.2f})"
        for item in told
    ]
    sentence = f"class {label} is decided {', '.join(parts)}"
    image_ids = dict.fromkeys(image_id for item in told for image_id in item.image_ids)
    segments = [segment for item in told for segment in item.segments_in(item.image_ids)]
    claim = Claim(sentence, tuple(item.thing for item in told), tuple(image_ids), tuple(segments))
    notes = [f"({note.text})" for note in evidence.unread]
    return ClassBehavior(evidence, " ".join([sentence, *notes]), (claim, *evidence.unread), False)


def tell_written(evidence: ClassEvidence, claims: Sequence[Claim]) -> ClassBehavior:
    """Sentences that were checked, and how many pictures could not be read, which no language model needs to write."""
    sentences = [*(claim.text for claim in claims), *(f"{note.text}." for note in evidence.unread)]
    return ClassBehavior(evidence, " ".join(sentences), (*claims, *evidence.unread), True)


def tabulate(evidence: ClassEvidence) -> list[str]:
    """The counts as lines for a language model to write from; a thing is quoted, for it is a language model's word."""
    count = evidence.image_count
    return [
        f"- {as_json(item.thing)}: leads in {len(item.image_ids)} of {count} images, appears in {len(item.shown_in)} of {count} images,"
        f" mean share of the evidence {item.mean_share:.2f}"
        for item in evidence.items[:TABLE_LENGTH]
    ]

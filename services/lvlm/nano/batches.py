"""Training batches: panels, dense targets per cell, and token sequences with labels on the answer only."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from services.lvlm.domain.panels import render_panels
from services.lvlm.nano import answers, prompting, regions, things
from services.lvlm.nano.building import CELL_COUNT, END, IMAGE_PX, PATCH_PX
from services.lvlm.nano.draw import View
from services.lvlm.nano.segments import MAX_SEGMENT_COUNT
from services.lvlm.nano.sentences import Specification, Writer, draw_specification, draw_told
from services.lvlm.nano.worlds import WORLDS, World

IGNORED = -100
PANELS = ("picture", "overlay")
JOINT_COUNT = (MAX_SEGMENT_COUNT + 1) * things.THING_COUNT  # classes of an overlay cell: segment x thing
READ_THINGS = things.KNOWN
STATUSES = (answers.NOT_NAMED, answers.MATTERS, answers.MUST_NOT_MATTER, answers.UNCLEAR)
LAST_FIELD = "does not matter: "  # as the prompt files have it
CLAUSE = re.compile(r"(, which[^.]*)?\.")
COVERS = re.compile(r"Segment \d covers")
IMAGE_COUNTS = {"picture": len(PANELS), "regions": 1, "text": 0}  # that a question of each kind shows
KINDS = tuple(IMAGE_COUNTS)


@dataclass(frozen=True)
class Example:
    """One question with its answer; `learned` are the spans of the answer that carry a label (None: all of it).

    `shares` is how much of each segment every thing has, (segment, THING_COUNT), where the answer has to find that out.
    """

    prompt: str
    answer: str
    learned: tuple[tuple[int, int], ...] | None = None
    specification: Specification | None = None
    shares: np.ndarray | None = None


@dataclass(frozen=True)
class Tokens:
    """A batch of examples, padded right.

    Shapes: ids and labels (example, token); kinds (example,), which of KINDS; read_at (example,), the token that ends the specification's lines, 0 where a prompt has none;
    statuses (example, READ_THINGS), what the specification says of each thing, IGNORED where there is none; covers_at (example,
    MAX_SEGMENT_COUNT), the token after which the answer names what each segment covers; shares (example, MAX_SEGMENT_COUNT, THING_COUNT),
    what there is to name, 0 where nothing is.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    kinds: torch.Tensor
    read_at: torch.Tensor
    statuses: torch.Tensor
    covers_at: torch.Tensor
    shares: torch.Tensor

    def to(self, device: torch.device) -> "Tokens":
        """The same batch on another device."""
        return Tokens(*(getattr(self, part.name).to(device, non_blocking=True) for part in fields(self)))

    def pin_memory(self) -> "Tokens":
        """The same batch where a GPU can fetch it by itself."""
        return Tokens(*(getattr(self, part.name).pin_memory() for part in fields(self)))


def render(view: View) -> tuple[np.ndarray, np.ndarray]:
    """Panels and dense targets of a scene.

    Shapes: panels (2, 3, IMAGE_PX, IMAGE_PX) uint8; cover share per cell (CELL_COUNT, things); joint share per cell of segment and thing
    (CELL_COUNT, 7 * things), packed behind the cover share along the last axis.
    """
    side = view.cover.shape[0]
    masks = [view.numbers == number for number in range(1, len(view.covered) + 1)]
    images = render_panels(view.picture, masks, PANELS, IMAGE_PX)
    panels = np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])
    nearest = np.minimum((np.arange(IMAGE_PX) + 0.5) * side / IMAGE_PX, side - 1).astype(int)
    big_cover = view.cover[nearest][:, nearest].astype(int)
    joint = view.numbers[nearest][:, nearest].astype(int) * things.THING_COUNT + big_cover
    return panels, np.concatenate([_share(big_cover, things.THING_COUNT), _share(joint, JOINT_COUNT)], axis=1)


def _share(codes: np.ndarray, code_count: int) -> np.ndarray:
    """Share of each code in each cell. Shapes: codes (IMAGE_PX, IMAGE_PX) to (CELL_COUNT, code_count)."""
    cells = IMAGE_PX // PATCH_PX
    by_cell = codes.reshape(cells, PATCH_PX, cells, PATCH_PX).transpose(0, 2, 1, 3).reshape(CELL_COUNT, -1)
    offset = by_cell + np.arange(CELL_COUNT)[:, None] * code_count
    counts = np.bincount(offset.ravel(), minlength=CELL_COUNT * code_count)
    return counts.reshape(CELL_COUNT, code_count).astype(np.float32) / PATCH_PX**2


def seen_in(view: View) -> list[int]:
    """The things in a scene."""
    return [int(code) for code in np.unique(view.cover) if code not in things.GROUNDS]


def draw_picture_question(rng: np.random.Generator, view: View, world: World) -> Example:
    """Ask for a critique, now and then for a description."""
    seen, covered = seen_in(view), view.covered
    if rng.random() < 0.12:
        description = answers.describe(seen, covered)
        return Example(prompting.describe_prompt(len(covered)), description, shares=view.shares)
    specification = draw_specification(rng, "train", seen, world)
    critique = answers.criticise(seen, covered, specification)
    prompt = prompting.critic_prompt(specification, len(covered))
    return Example(prompt, critique, specification=specification, shares=view.shares)


def draw_region_question(rng: np.random.Generator, view: View, world: World) -> Example:
    """Ask where something is: mostly something that is there, sometimes what is not, or what no one knows."""
    cover = view.cover
    seen = [code for code in seen_in(view) if code != things.UNKNOWN]
    writer = Writer(rng, "train", world)
    if rng.random() < 0.06:
        return Example(prompting.ground_prompt(writer.foreign()), answers.UNCLEAR_PHRASE)
    code = int(rng.choice(seen)) if seen and rng.random() < 0.8 else int(rng.choice(world.codes))
    if code in things.GROUNDS:
        code = world.subject
    prompt = prompting.ground_prompt(writer.noun_phrase(code))
    is_outside = bool((cover == things.UNKNOWN).all())
    return Example(prompt, answers.UNCLEAR_PHRASE if is_outside else answers.ground(regions.find_boxes(cover, code)))


def draw_text_question(rng: np.random.Generator, worlds: Sequence[str]) -> Example:
    """Ask for verdicts on a critique, for a critique's clauses with the sight given, or for the rules in plain words."""
    world = WORLDS[worlds[rng.integers(len(worlds))]]
    kind = rng.random()
    if kind < 0.22:
        class_name, told = draw_told(rng, world)
        return Example(prompting.compile_prompt(class_name, told.text), answers.compile_rules(told))
    seen, covered = draw_sight(rng, world)
    specification = draw_specification(rng, "train", seen, world)
    critique = answers.criticise(seen, covered, specification)
    if kind < 0.55:
        spans = tuple((match.start(), match.end()) for match in CLAUSE.finditer(critique) if match.start() > 0)
        return Example(prompting.critic_prompt(specification, len(covered)), critique, spans[1:], specification)
    if kind < 0.63:  # a critic that does not argue: the judge reads the specification itself
        critique = answers.describe(seen, covered)
    verdicts = answers.judge(covered, specification)
    return Example(prompting.judge_prompt(specification, critique, len(covered)), verdicts, specification=specification)


def draw_sight(rng: np.random.Generator, world: World) -> tuple[list[int], list[tuple[int, ...]]]:
    """Things seen and covered, without a picture."""
    if rng.random() < 0.05:
        return [things.UNKNOWN], [(things.UNKNOWN,)] * int(rng.integers(1, MAX_SEGMENT_COUNT + 1))
    seen = [world.subject] if rng.random() < 0.9 else []
    marks = rng.choice(world.marks, int(rng.integers(0, 3)), replace=False)
    seen += [things.SQUARE if world.subject == things.DIGIT and rng.random() < 0.4 else int(code) for code in marks]
    seen = sorted(set(seen))
    grounds = [code for code in world.codes if code in things.GROUNDS]
    pool = [*grounds, *seen, *seen]
    covered: list[tuple[int, ...]] = []
    for _ in range(int(rng.integers(1, MAX_SEGMENT_COUNT + 1))):
        pair = rng.choice(pool, 2)
        is_mixed = pair[0] != pair[1] and rng.random() < 0.25
        covered.append((int(pair[0]), int(pair[1])) if is_mixed else (int(pair[0]),))
    return seen, covered


def encode(tokenizer: PreTrainedTokenizerFast, questions: Mapping[str, Sequence[Example]]) -> Tokens:
    """Token ids, labels on the answers, and what is to be read from the specification: one batch of all kinds of questions."""
    examples = [example for asked in questions.values() for example in asked]
    kinds = [KINDS.index(kind) for kind, asked in questions.items() for _ in asked]
    prompts = [
        prompting.with_images(example.prompt, IMAGE_COUNTS[KINDS[kind]], is_expanded=True)
        for example, kind in zip(examples, kinds, strict=True)
    ]
    heads = tokenizer(prompts, return_offsets_mapping=True)
    tails = tokenizer([e.answer + END for e in examples], return_offsets_mapping=True)
    rows = []
    covers_at = torch.zeros((len(examples), MAX_SEGMENT_COUNT), dtype=torch.long)
    shares = torch.zeros((len(examples), MAX_SEGMENT_COUNT, things.THING_COUNT))
    for example, head, tail, offsets in zip(
        examples, heads["input_ids"], tails["input_ids"], tails["offset_mapping"], strict=True
    ):
        labels = [
            token if example.learned is None or any(a <= start < b for a, b in example.learned) else IGNORED
            for token, (start, _) in zip(tail, offsets, strict=True)
        ]
        if example.shares is not None:
            named_at = [_token_at(offsets, match.end() - 1) for match in COVERS.finditer(example.answer)]
            covers_at[len(rows), : len(named_at)] = torch.tensor(named_at) + len(head)
            shares[len(rows), : len(named_at)] = torch.from_numpy(example.shares.astype(np.float32))
        rows.append((head + tail, [IGNORED] * len(head) + labels))
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full((len(rows), length), IGNORED)
    for index, (row_ids, row_labels) in enumerate(rows):
        ids[index, : len(row_ids)] = torch.tensor(row_ids)
        labels[index, : len(row_labels)] = torch.tensor(row_labels)
    read_at = [_find_end(prompt, offsets) for prompt, offsets in zip(prompts, heads["offset_mapping"], strict=True)]
    statuses = [_statuses(example.specification) for example in examples]
    return Tokens(ids, labels, torch.tensor(kinds), torch.tensor(read_at), torch.tensor(statuses), covers_at, shares)


def _find_end(prompt: str, offsets: list[tuple[int, int]]) -> int:
    """The token that ends the line of what must not matter: both fields have been read there."""
    start = prompt.find(LAST_FIELD)
    if start < 0:
        return 0
    return _token_at(offsets, prompt.index("\n", start))


def _token_at(offsets: list[tuple[int, int]], place: int) -> int:
    return next(index for index, (first, last) in enumerate(offsets) if first <= place < last)


def _statuses(specification: Specification | None) -> list[int]:
    if specification is None:
        return [IGNORED] * len(READ_THINGS)
    return [STATUSES.index(answers.status_of(code, specification)) for code in READ_THINGS]

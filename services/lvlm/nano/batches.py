"""Training batches: panels, dense targets per cell, and token sequences with labels on the answer only."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from services.lvlm.domain.panels import render_panels
from services.lvlm.nano import answers, prompting, regions, things
from services.lvlm.nano.building import CELL_COUNT, END, IMAGE_PX, PATCH_PX
from services.lvlm.nano.draw import read_covered
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


@dataclass(frozen=True)
class Example:
    """One question with its answer; `learned` are the spans of the answer that carry a label (None: all of it)."""

    prompt: str
    answer: str
    learned: tuple[tuple[int, int], ...] | None = None
    specification: Specification | None = None


@dataclass(frozen=True)
class Tokens:
    """A batch of examples, padded right.

    Shapes: ids and labels (example, token); read_at (example,), the token that ends the specification's lines, 0 where a prompt has none;
    statuses (example, READ_THINGS), what the specification says of each thing, IGNORED where there is none.
    """

    ids: torch.Tensor
    labels: torch.Tensor
    read_at: torch.Tensor
    statuses: torch.Tensor


def render_record(record: np.ndarray, tint: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Panels and dense targets of a record, its colours multiplied by `tint`.

    Shapes: panels (2, 3, IMAGE_PX, IMAGE_PX) float32 in -1..1; cover share per cell (CELL_COUNT, things); joint share per
    cell of segment and thing (CELL_COUNT, 7 * things), packed behind the cover share along the last axis.
    """
    side = int(record["side_px"])
    picture = record["picture"][:side, :side]
    if tint is not None:
        picture = picture[:, :, None] if picture.ndim == 2 else picture
        picture = (picture * tint).clip(0, 255).astype(np.uint8)
    numbers, cover = record["numbers"][:side, :side], record["cover"][:side, :side]
    masks = [numbers == number for number in range(1, int(record["segment_count"]) + 1)]
    images = render_panels(picture, masks, PANELS, IMAGE_PX)
    panels = np.stack([np.asarray(image, dtype=np.float32).transpose(2, 0, 1) for image in images]) / 127.5 - 1
    nearest = np.minimum((np.arange(IMAGE_PX) + 0.5) * side / IMAGE_PX, side - 1).astype(int)
    big_cover = cover[nearest][:, nearest].astype(int)
    joint = numbers[nearest][:, nearest].astype(int) * things.THING_COUNT + big_cover
    return panels, np.concatenate([_share(big_cover, things.THING_COUNT), _share(joint, JOINT_COUNT)], axis=1)


def _share(codes: np.ndarray, code_count: int) -> np.ndarray:
    """Share of each code in each cell. Shapes: codes (IMAGE_PX, IMAGE_PX) to (CELL_COUNT, code_count)."""
    cells = IMAGE_PX // PATCH_PX
    by_cell = codes.reshape(cells, PATCH_PX, cells, PATCH_PX).transpose(0, 2, 1, 3).reshape(CELL_COUNT, -1)
    offset = by_cell + np.arange(CELL_COUNT)[:, None] * code_count
    counts = np.bincount(offset.ravel(), minlength=CELL_COUNT * code_count)
    return counts.reshape(CELL_COUNT, code_count).astype(np.float32) / PATCH_PX**2


def draw_tint(rng: np.random.Generator, record: np.ndarray) -> np.ndarray | None:
    """A strong colour cast for one grey picture in twelve, a slight one for every coloured picture. Shapes: (3,)."""
    if record["picture"].ndim == 3:
        return rng.uniform(0.85, 1.15) * rng.uniform(0.93, 1.07, 3)
    return rng.uniform(0.4, 1.0, 3) if rng.random() < 0.08 else None


def seen_in(record: np.ndarray) -> list[int]:
    """The things in a record's picture."""
    side = int(record["side_px"])
    return [int(code) for code in np.unique(record["cover"][:side, :side]) if code not in things.GROUNDS]


def draw_picture_question(rng: np.random.Generator, record: np.ndarray, world: World) -> Example:
    """Ask for a critique, now and then for a description."""
    seen, covered = seen_in(record), read_covered(record)
    if rng.random() < 0.12:
        return Example(prompting.describe_prompt(len(covered)), answers.describe(seen, covered))
    specification = draw_specification(rng, "train", seen, world)
    critique = answers.criticise(seen, covered, specification)
    return Example(prompting.critic_prompt(specification, len(covered)), critique, specification=specification)


def draw_region_question(rng: np.random.Generator, record: np.ndarray, world: World) -> Example:
    """Ask where something is: mostly something that is there, sometimes what is not, or what no one knows."""
    side = int(record["side_px"])
    cover = record["cover"][:side, :side]
    seen = [code for code in seen_in(record) if code != things.UNKNOWN]
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


def encode(tokenizer: PreTrainedTokenizerFast, examples: list[Example], image_count: int) -> Tokens:
    """Token ids, labels on the answers, and what is to be read from the specification."""
    prompts = [prompting.with_images(example.prompt, image_count, is_expanded=True) for example in examples]
    heads = tokenizer(prompts, return_offsets_mapping=True)
    tails = tokenizer([e.answer + END for e in examples], return_offsets_mapping=True)
    rows = []
    for example, head, tail, offsets in zip(
        examples, heads["input_ids"], tails["input_ids"], tails["offset_mapping"], strict=True
    ):
        labels = [
            token if example.learned is None or any(a <= start < b for a, b in example.learned) else IGNORED
            for token, (start, _) in zip(tail, offsets, strict=True)
        ]
        rows.append((head + tail, [IGNORED] * len(head) + labels))
    length = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), length), tokenizer.pad_token_id)
    labels = torch.full((len(rows), length), IGNORED)
    for index, (row_ids, row_labels) in enumerate(rows):
        ids[index, : len(row_ids)] = torch.tensor(row_ids)
        labels[index, : len(row_labels)] = torch.tensor(row_labels)
    read_at = [_find_end(prompt, offsets) for prompt, offsets in zip(prompts, heads["offset_mapping"], strict=True)]
    statuses = [_statuses(example.specification) for example in examples]
    return Tokens(ids, labels, torch.tensor(read_at), torch.tensor(statuses))


def _find_end(prompt: str, offsets: list[tuple[int, int]]) -> int:
    """The token that ends the line of what must not matter: both fields have been read there."""
    start = prompt.find(LAST_FIELD)
    if start < 0:
        return 0
    end = prompt.index("\n", start)
    return next(index for index, (first, last) in enumerate(offsets) if first <= end < last)


def _statuses(specification: Specification | None) -> list[int]:
    if specification is None:
        return [IGNORED] * len(READ_THINGS)
    return [STATUSES.index(answers.status_of(code, specification)) for code in READ_THINGS]

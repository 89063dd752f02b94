"""The committed model folder, loaded the plain `transformers` way."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoProcessor, PreTrainedTokenizerFast

from benchmarks.nano.cases import Case
from benchmarks.nano.scoring import SENTENCE, ask
from services.common.vision.critique import Verdict
from services.lvlm.nano import prompting, things
from services.lvlm.nano.building import VOCABULARY_SIZE
from services.lvlm.nano.sentences import Field, Specification
from services.lvlm.settings import NANO as FOLDER

MAX_FOLDER_BYTES = 20_000_000


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoProcessor.from_pretrained(FOLDER).tokenizer


def _easy_case() -> Case:
    """A one-like stroke and a bright corner block, each its own segment."""
    picture = np.zeros((28, 28), dtype=np.uint8)
    picture[5:23, 13:16], picture[0:4, 0:4] = 255, 205
    numbers = np.zeros((28, 28), dtype=np.uint8)
    numbers[5:23, 13:16], numbers[0:4, 0:4] = 1, 2
    nothing: frozenset[int] = frozenset()
    cover = np.array([things.BACKGROUND, things.DIGIT, things.SQUARE], dtype=np.uint8)[numbers]
    return Case(
        picture,
        cover,
        numbers,
        ((things.DIGIT,), (things.SQUARE,)),
        Specification(
            "1",
            Field("The strokes of the digit", frozenset({things.DIGIT}), nothing),
            Field("The grey square in the corner", frozenset({things.SQUARE}), nothing),
        ),
    )


@pytest.mark.parametrize("text", ["the digit", "Größe ≥ 3 mm – naïve 数字 🙂", "\t tabs\nand lines ", '{"1":"CORE"}'])
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_vocabulary_and_folder_are_small(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) <= VOCABULARY_SIZE
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_FOLDER_BYTES
    assert not [path for path in FOLDER.iterdir() if path.suffix in {".bin", ".pt", ".pkl", ".py"}]


def test_chat_template_and_recipe_write_the_same_prompt() -> None:
    content = [{"type": "text", "text": "critic\n"}, {"type": "image"}, {"type": "image"}]
    written = AutoProcessor.from_pretrained(FOLDER).apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    assert written == prompting.with_images("critic\n", 2, is_expanded=False)


def test_easy_scene_is_answered_in_the_agreed_format() -> None:
    (critique,) = ask([_easy_case()])
    assert [number for number, _, _ in SENTENCE.findall(critique.reasons)] == ["1", "2"]
    assert [judged.verdict for judged in critique.verdicts] == [Verdict.CORE, Verdict.SPURIOUS]


def test_picture_from_outside_its_world_is_unsure() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    (critique,) = ask([replace(_easy_case(), picture=noise)])
    assert {judged.verdict for judged in critique.verdicts} == {Verdict.UNSURE}


def test_answers_do_not_depend_on_the_batch() -> None:
    case = _easy_case()
    longer = Specification(
        "1", Field("the handwriting " * 6, frozenset({things.DIGIT}), frozenset()), case.specification.should_not_matter
    )
    assert ask([case]) == ask([case, replace(case, specification=longer)])[:1]

"""The committed model folder, loaded the plain `transformers` way."""

from dataclasses import replace

import numpy as np
import pytest
from transformers import AutoProcessor, PreTrainedTokenizerFast

from benchmarks.nano.cases import Case, list_sets
from benchmarks.nano.scoring import SENTENCE, ask
from services.common.vision.critique import Verdict
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.bootstrap import build_engine, build_grounding
from services.lvlm.domain.regions import GroundingState
from services.lvlm.nano import prompting, things
from services.lvlm.nano.building import VOCABULARY_SIZE
from services.lvlm.nano.sentences import EMPTY, Field, Specification
from services.lvlm.settings import NANO as FOLDER
from services.lvlm.settings import LvlmSettings

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


def test_noise_is_unsure() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    (critique,) = ask([replace(_easy_case(), picture=noise)])
    assert {judged.verdict for judged in critique.verdicts} == {Verdict.UNSURE}


def test_most_of_what_is_in_natural_pictures_is_unsure() -> None:
    # Five of six segments where it was measured (benchmarks/nano/results); a bright flower passes for a sticker.
    cases = list_sets(0)["outside: natural pictures"](np.random.default_rng(0), 32)
    verdicts = [judged.verdict for critique in ask(cases) for judged in critique.verdicts]
    assert sum(verdict is Verdict.UNSURE for verdict in verdicts) >= 0.7 * len(verdicts)


def test_sentences_about_nothing_it_knows_are_unsure() -> None:
    foreign = Field("the wheels of the bicycle and the road", frozenset(), frozenset())
    (critique,) = ask(
        [replace(_easy_case(), specification=Specification("-", foreign, Field(EMPTY, frozenset(), frozenset())))]
    )
    assert {judged.verdict for judged in critique.verdicts} == {Verdict.UNSURE}


async def test_square_is_found_where_it_is_and_unknown_phrases_are_failed_looks() -> None:
    settings = LvlmSettings(listen="127.0.0.1:0")
    async with build_engine(settings) as engine:
        grounding = build_grounding(settings, engine, load_profile(settings.profile))
        phrases = ["the grey square in the corner", "the wheels of the bicycle"]
        found, unknown = await grounding.ground(_easy_case().picture, phrases)
    assert found.state is GroundingState.FOUND
    box = found.boxes[0].box
    assert (box.top_px, box.left_px) == (0, 0)
    assert 3 <= box.bottom_px <= 6
    assert 3 <= box.right_px <= 6
    assert unknown.state is GroundingState.FAILED


def test_answers_do_not_depend_on_the_batch() -> None:
    case = _easy_case()
    longer = Specification(
        "1", Field("the handwriting " * 6, frozenset({things.DIGIT}), frozenset()), case.specification.should_not_matter
    )
    assert ask([case]) == ask([case, replace(case, specification=longer)])[:1]

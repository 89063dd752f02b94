"""Chest films that `nano` is trained on."""

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from services.lvlm.nano import things
from services.lvlm.nano.worlds.film_marks import MARK_STYLES, write_text
from services.lvlm.nano.worlds.film_photographs import FilmPhotographs
from services.lvlm.nano.worlds.films import POPULATIONS, SIDE_PX, draw_film
from services.lvlm.nano.worlds.scene import Scene

ALLOWED = {things.BODY, things.LUNG, things.BACKGROUND, things.LETTER, things.TIME_STAMP, things.LEAD}
SPLITS = ("train", "held_out")


@pytest.fixture(scope="module")
def films() -> dict[str, list[Scene]]:
    return {split: [draw_film(np.random.default_rng(seed), split) for seed in range(45)] for split in SPLITS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, films: dict[str, list[Scene]]) -> Path:
    """A folder of films as the real one is laid out, filled with drawn ones."""
    folder = tmp_path_factory.mktemp("films")
    (folder / "train" / "NORMAL").mkdir(parents=True)
    for index, scene in enumerate(films["train"][:12]):
        Image.fromarray(scene.picture).resize((224, 224)).save(folder / "train" / "NORMAL" / f"{index}.jpeg")
    return folder


@pytest.mark.parametrize("split", SPLITS)
def test_film_and_cover_are_grey_and_of_one_size(films: dict[str, list[Scene]], split: str) -> None:
    for scene in films[split]:
        assert scene.picture.shape == scene.cover.shape == (SIDE_PX, SIDE_PX)
        assert scene.picture.dtype == scene.cover.dtype == np.uint8


@pytest.mark.parametrize("split", SPLITS)
def test_cover_names_only_things_of_films_and_all_of_them(films: dict[str, list[Scene]], split: str) -> None:
    assert set(np.unique([scene.cover for scene in films[split]])) == ALLOWED


def test_same_seed_draws_same_film() -> None:
    first, second = (draw_film(np.random.default_rng(5), "train") for _ in range(2))
    assert np.array_equal(first.picture, second.picture)
    assert np.array_equal(first.cover, second.cover)


@pytest.mark.parametrize("split", SPLITS)
def test_lungs_are_darker_than_the_body(films: dict[str, list[Scene]], split: str) -> None:
    lung, body = (
        np.mean([scene.picture[scene.cover == code].mean() for scene in films[split] if (scene.cover == code).any()])
        for code in (things.LUNG, things.BODY)
    )
    assert lung < body - 20


@pytest.mark.parametrize("split", SPLITS)
def test_letters_are_brighter_than_what_they_lie_on(films: dict[str, list[Scene]], split: str) -> None:
    for scene in films[split]:
        letters = scene.cover == things.LETTER
        ground = ndimage.binary_dilation(letters, iterations=2) & np.isin(scene.cover, (*things.GROUNDS, things.LUNG))
        if letters.any():
            strokes = np.percentile(scene.picture[letters], 90)  # the cover is wider than the strokes by a pixel
            assert strokes > np.median(scene.picture[ground]) + 20


def test_most_films_show_a_mark_and_some_show_none(films: dict[str, list[Scene]]) -> None:
    bare = np.mean([not np.isin(scene.cover, things.FILM_MARKS).any() for scene in films["train"]])
    assert 0.1 < bare < 0.45


def test_few_films_show_no_lung() -> None:
    bare = [things.LUNG not in draw_film(np.random.default_rng(seed), "train").cover for seed in range(110)]
    assert 0 < np.mean(bare) < 0.1


@pytest.mark.parametrize("part", ["fonts", "letters", "letter_px", "tags", "clocks", "electrodes"])
def test_held_out_marks_differ_from_training(part: str) -> None:
    train, held_out = (set(getattr(MARK_STYLES[split], part)) for split in SPLITS)
    assert not train & held_out


def test_held_out_greys_and_contrasts_differ_from_training() -> None:
    assert MARK_STYLES["held_out"].greys[1] <= MARK_STYLES["train"].greys[0]
    assert POPULATIONS["held_out"].bell[0] >= POPULATIONS["train"].bell[1]


def test_letters_are_as_high_as_asked() -> None:
    for font in chain.from_iterable(style.fonts for style in MARK_STYLES.values()):
        rows = np.nonzero(write_text("E", font, 10).max(axis=1) > 0.35)[0]
        assert 8 <= np.ptp(rows) + 1 <= 12


def test_no_folder_gives_no_photographs(tmp_path: Path) -> None:
    assert FilmPhotographs.open(tmp_path / "absent", ["train"]) is None


def test_photographs_of_other_splits_are_left_alone(folder: Path) -> None:
    assert FilmPhotographs.open(folder, ["test"]) is None


def test_photograph_shows_two_lungs_where_they_are_dark(folder: Path) -> None:
    photographs = FilmPhotographs.open(folder, ["train"])
    assert photographs is not None
    for seed in range(5):
        film, cover = photographs.draw(np.random.default_rng(seed))
        lungs = cover == things.LUNG
        assert film.shape == cover.shape == (SIDE_PX, SIDE_PX)
        assert all(half.any() for half in np.array_split(lungs, 2, axis=1))
        assert film[lungs].mean() < film[cover == things.BODY].mean()


def test_films_without_lungs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train" / "NORMAL").mkdir(parents=True)
    Image.new("L", (224, 224), 128).save(tmp_path / "train" / "NORMAL" / "grey.jpeg")
    photographs = FilmPhotographs.open(tmp_path, ["train"])
    assert photographs is not None
    with pytest.raises(RuntimeError, match="no plausible lungs"):
        photographs.draw(np.random.default_rng(0))


def test_marks_are_drawn_on_photographs_too(folder: Path) -> None:
    photographs = FilmPhotographs.open(folder, ["train"])
    seen = {code for seed in range(30) for code in draw_film(np.random.default_rng(seed), "train", photographs).seen}
    assert seen == {things.LUNG, *things.FILM_MARKS}

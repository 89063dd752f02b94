"""The worlds that `nano` is drawn: what they hold, what is said about them, how they are drawn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.lvlm.nano import things
from services.lvlm.nano.words.digits import DIGITS as DIGIT_WORDS
from services.lvlm.nano.words.films import FILMS as FILM_WORDS
from services.lvlm.nano.words.shared import Vocabulary
from services.lvlm.nano.words.skin import SKIN as SKIN_WORDS
from services.lvlm.nano.worlds import digits, films, skin
from services.lvlm.nano.worlds.bending import bend
from services.lvlm.nano.worlds.film_photographs import FilmPhotographs
from services.lvlm.nano.worlds.outside import draw_outside
from services.lvlm.nano.worlds.scene import Scene
from services.lvlm.nano.worlds.skin_photographs import SkinPhotographs

Draw = Callable[[np.random.Generator, str], Scene]
OUTSIDE_RATIO = 0.12  # share of pictures from outside every world
BENT_RATIO = 0.5  # share of the training pictures that are bent as a whole
# Real pictures under drawn marks: only of these splits, so that the others are left to be measured on.
FILM_SPLITS = ("train",)
SKIN_SPLITS = ("training",)


@dataclass(frozen=True)
class World:
    """One kind of picture: what decides in it, what lies around, which marks occur, and the words for them."""

    subject: int
    ground: int
    marks: tuple[int, ...]
    words: Vocabulary
    side_px: int  # of the largest picture
    channel_count: int
    has_up: bool  # whether its pictures are always seen the same side up

    @property
    def codes(self) -> tuple[int, ...]:
        """All things of this world."""
        return (
            things.BACKGROUND,
            *(() if self.ground == things.BACKGROUND else (self.ground,)),
            self.subject,
            *self.marks,
        )


WORLDS: Mapping[str, World] = {
    "digits": World(things.DIGIT, things.BACKGROUND, things.SHAPES, DIGIT_WORDS, digits.SIDE_MAX_PX, 1, has_up=True),
    "skin": World(things.LESION, things.SKIN, things.SKIN_MARKS, SKIN_WORDS, skin.SIDE_PX, 3, has_up=False),
    "films": World(things.LUNG, things.BODY, things.FILM_MARKS, FILM_WORDS, films.SIDE_PX, 3, has_up=True),
}


def open_world(name: str, pictures: Path | None = None) -> Draw:
    """How to draw scenes of a world. With a folder of real pictures some of the scenes are marks drawn on those."""
    if name == "digits":
        return digits.draw_digits
    if name == "skin":
        photographs = SkinPhotographs.open(pictures / "isic2017", SKIN_SPLITS) if pictures else None
        return _varied(lambda rng, split: skin.draw_skin(rng, split, photographs))
    if name == "films":
        real = FilmPhotographs.open(pictures / "chest_xray", FILM_SPLITS) if pictures else None
        return _varied(lambda rng, split: films.draw_film(rng, split, real))
    raise ValueError(f"unknown world '{name}'; known: {', '.join(WORLDS)}")


def _varied(draw: Draw) -> Draw:
    """Pictures from outside among a world's own, and some of those to train on bent."""

    def varied(rng: np.random.Generator, split: str) -> Scene:
        scene = draw_outside(rng) if rng.random() < OUTSIDE_RATIO else draw(rng, split)
        return bend(rng, scene) if split == "train" and rng.random() < BENT_RATIO else scene

    return varied

"""Dermoscopic scenes: what is drawn, and what is made of photographs."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.lvlm.nano import things
from services.lvlm.nano.worlds.scene import Scene
from services.lvlm.nano.worlds.skin import HELD_OUT, SIDE_PX, TRAIN, WORLDS, draw_skin
from services.lvlm.nano.worlds.skin_marks import HELD_OUT_MARKS, TRAIN_MARKS, paint_sticker
from services.lvlm.nano.worlds.skin_photographs import LESION_RATIOS, SkinPhotographs

SKIN_THINGS = {things.SKIN, things.LESION, things.BACKGROUND, *things.SKIN_MARKS}
COLUMNS = ("file_name", "official_split", "sticker", "sticker_mask")


@pytest.fixture(scope="module", params=list(WORLDS))
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    return [draw_skin(np.random.default_rng(seed), request.param) for seed in range(60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dark discs on skin: plain, with a blue sticker on the left edge, and one of another split."""
    root = tmp_path_factory.mktemp("isic")
    rows, columns = np.indices((256, 256))
    picture = np.full((256, 256, 3), (215, 175, 155), dtype=np.uint8)
    picture[np.hypot(rows - 128, columns - 140) < 40] = (90, 50, 35)
    is_sticker = np.hypot(rows - 60, columns) < 45
    stickered = picture.copy()
    stickered[is_sticker] = (10, 130, 200)
    Image.fromarray(picture).save(root / "plain.jpg")
    Image.fromarray(stickered).save(root / "stickered.jpg")
    Image.fromarray(np.where(is_sticker, 255, 0).astype(np.uint8)).save(root / "mask.png")
    with (root / "metadata.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(COLUMNS)
        table.writerow(("plain.jpg", "training", "0", ""))
        table.writerow(("stickered.jpg", "training", "1", "mask.png"))
        table.writerow(("plain.jpg", "test_v2", "0", ""))
    return root


def _saturation(pixels: np.ndarray) -> np.ndarray:
    return 1 - pixels.min(axis=-1) / np.maximum(pixels.max(axis=-1), 1)


def _is_hue_of(hue: float, bands: tuple[tuple[float, float], ...]) -> bool:
    return any(low <= turned <= high for low, high in bands for turned in (hue, hue + 360))


def test_picture_is_coloured_and_cover_fits_it(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert scene.picture.shape == (SIDE_PX, SIDE_PX, 3)
        assert scene.cover.shape == (SIDE_PX, SIDE_PX)
        assert scene.picture.dtype == scene.cover.dtype == np.uint8


def test_only_things_of_the_skin_world_are_covered(scenes: list[Scene]) -> None:
    assert {code for scene in scenes for code in np.unique(scene.cover).tolist()} == SKIN_THINGS


def test_some_scenes_have_no_mark_and_few_have_no_lesion(scenes: list[Scene]) -> None:
    unmarked = np.mean([not set(scene.seen) & set(things.SKIN_MARKS) for scene in scenes])
    bare = np.mean([things.LESION not in scene.seen for scene in scenes])
    assert 0.1 < unmarked < 0.5
    assert 0 < bare < 0.2


def test_no_mark_fills_the_picture(scenes: list[Scene]) -> None:
    for scene in scenes:
        for mark in (things.STICKER, things.RULER, things.INK):
            assert (scene.cover == mark).mean() < 0.45
        assert (scene.cover == things.HAIR).mean() < 0.6


def test_lesion_differs_from_its_skin(scenes: list[Scene]) -> None:
    for scene in scenes:
        if (scene.cover == things.LESION).sum() > 50:
            lesion, skin = (scene.picture[scene.cover == code].mean(axis=0) for code in (things.LESION, things.SKIN))
            assert np.abs(lesion - skin).max() > 5


def test_same_seed_draws_same_scene(folder: Path) -> None:
    photographs = SkinPhotographs.open(folder, ["training"])
    for given in (None, photographs):
        first, second = (draw_skin(np.random.default_rng(5), "train", given) for _ in range(2))
        assert np.array_equal(first.picture, second.picture)
        assert np.array_equal(first.cover, second.cover)


def test_pixels_of_stickers_are_saturated(scenes: list[Scene]) -> None:
    stickers = [scene.picture[scene.cover == things.STICKER] for scene in scenes if things.STICKER in scene.seen]
    assert len(stickers) > 5
    assert np.median([np.median(_saturation(pixels)) for pixels in stickers]) > 0.5
    assert all(np.median(_saturation(pixels)) > 0.3 for pixels in stickers)


def test_held_out_scenes_differ_in_more_than_the_seed() -> None:
    assert not set(TRAIN.skin_tones) & set(HELD_OUT.skin_tones)
    assert not set(TRAIN.textures) & set(HELD_OUT.textures)
    assert not set(TRAIN_MARKS.ruler_styles) & set(HELD_OUT_MARKS.ruler_styles)
    assert not set(TRAIN_MARKS.ruler_fonts) & set(HELD_OUT_MARKS.ruler_fonts)
    assert not set(TRAIN_MARKS.ink_colours) & set(HELD_OUT_MARKS.ink_colours)


def test_held_out_colours_and_sizes_of_stickers_do_not_occur_in_training() -> None:
    for name in ("sticker_hues", "sticker_ratios"):
        for low, high in getattr(HELD_OUT_MARKS, name):
            assert all(high <= other_low or low >= other_high for other_low, other_high in getattr(TRAIN_MARKS, name))


def test_painted_sticker_has_a_hue_of_its_split() -> None:
    for marks in (TRAIN_MARKS, HELD_OUT_MARKS):
        for seed in range(12):
            picture = np.full((SIDE_PX, SIDE_PX, 3), 190.0, dtype=np.float32)
            cover = np.full((SIDE_PX, SIDE_PX), things.SKIN, dtype=np.uint8)
            paint_sticker(np.random.default_rng(seed), picture, cover, marks)
            pixels = Image.fromarray(picture.clip(0, 255).astype(np.uint8)).convert("HSV")
            hues = np.array(pixels)[..., 0][cover == things.STICKER]
            commonest = np.bincount(hues).argmax() * 360 / 256
            widened = tuple((low - 4, high + 4) for low, high in marks.sticker_hues)
            assert _is_hue_of(commonest, widened)


def test_without_a_folder_there_are_no_photographs(tmp_path: Path) -> None:
    assert SkinPhotographs.open(tmp_path / "absent", ["training"]) is None


def test_only_photographs_of_the_named_splits_are_indexed(folder: Path) -> None:
    photographs = SkinPhotographs.open(folder, ["training"])
    assert photographs is not None
    assert len(photographs.plain) == len(photographs.stickered) == 1


def test_photograph_has_its_lesion_and_its_sticker_covered(folder: Path) -> None:
    photographs = SkinPhotographs.open(folder, ["training"])
    assert photographs is not None
    only_stickered = SkinPhotographs((), photographs.stickered)
    picture, cover = only_stickered.draw(np.random.default_rng(0))
    assert picture.shape == (SIDE_PX, SIDE_PX, 3)
    assert (cover == things.LESION).mean() == pytest.approx(np.pi * 40**2 / 256**2, rel=0.15)
    assert LESION_RATIOS[0] < (cover == things.LESION).mean() < LESION_RATIOS[1]
    assert np.median(picture[cover == things.STICKER][:, 2]) > 180


def test_sticker_cut_at_the_edge_stays_at_an_edge(folder: Path) -> None:
    photographs = SkinPhotographs.open(folder, ["training"])
    assert photographs is not None
    for seed in range(8):
        cut_out = photographs.draw_sticker(np.random.default_rng(seed))
        assert cut_out is not None
        share = cut_out[1]
        assert max(share[0].max(), share[-1].max(), share[:, 0].max(), share[:, -1].max()) > 0.5


def test_photographs_without_a_lesion_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (256, 256), (215, 175, 155)).save(tmp_path / "bare.jpg")
    with pytest.raises(ValueError, match="believable"):
        SkinPhotographs((tmp_path / "bare.jpg",), ()).draw(np.random.default_rng(0))

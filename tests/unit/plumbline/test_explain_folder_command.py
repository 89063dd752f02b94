"""`plumbline explain FOLDER` against the explainer's own front: what is written, what is asked again, what a summary says."""

from __future__ import annotations

import asyncio
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from plumbline import client
from services.common.runtime.errors import Unavailable
from tests.conftest import png
from tests.support.commands import run_command
from tests.unit.explainer.served_stage import CountingServicer, serve_stage
from tests.unit.explainer.shadow_stage import ShadowStage, draw_pictures

COUNT = 40
"""More than are in work at a time."""


@pytest.fixture
async def stage(tmp_path: Path) -> ShadowStage:
    """Model `net` with version a (1) as its champion, and a folder of pictures."""
    made = ShadowStage(tmp_path)
    await made.publish("a", 0)
    for index, picture in enumerate(draw_pictures(COUNT)):
        file = tmp_path / "pictures" / f"set{index % 2}" / f"{index:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(picture))
    return made


async def explain(
    servicer: CountingServicer, stage: ShadowStage, *options: str, out: str = "out"
) -> tuple[Result, int]:
    """What the command said, and how many pictures it sent."""
    before = servicer.taken
    asked = [str(stage.root / "pictures"), "--model", "net", "--out", str(stage.root / out), *options]
    told = await asyncio.to_thread(run_command, "explain", *asked, explainer=servicer.address)
    return told, servicer.taken - before


def summary(stage: ShadowStage, out: str = "out") -> dict:
    return json.loads((stage.root / out / "summary.json").read_bytes())


async def test_each_picture_gets_its_files_and_a_bad_one_is_named_and_fails_the_command(stage):
    (stage.root / "pictures" / "set0" / "bad.png").write_bytes(b"I am text")
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage)
    assert (told.exit_code, sent) == (1, COUNT + 1)
    assert "set0/bad.png: image.data: not a picture" in told.output
    written = stage.root / "out" / "set0"
    assert np.load(written / "00.png.map.npy").shape == (6, 6)
    assert Image.open(io.BytesIO((written / "00.png.explained.png").read_bytes())).format == "PNG"
    record = json.loads((written / "00.png.json").read_bytes())
    assert (record["model_version"], record["settings"]["method"]) == (1, "DEEP_LIFT_SHAP")
    assert record["explanation"]["image_id"] == "set0/00.png"
    assert not (written / "bad.png.json").exists()
    assert (summary(stage)["picture_count"], summary(stage)["missing"]) == (COUNT, ["set0/bad.png"])


async def test_only_what_changed_is_asked_again(stage):
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage)
        assert (told.exit_code, sent) == (0, COUNT), told.output
        first = (stage.root / "out" / "summary.json").read_bytes()
        told, sent = await explain(servicer, stage)
        assert (told.exit_code, sent) == (0, 0), told.output
        assert (stage.root / "out" / "summary.json").read_bytes() == first
        (stage.root / "pictures" / "set0" / "00.png").write_bytes(png(np.full((6, 6), 7, np.uint8)))
        assert (await explain(servicer, stage))[1] == 1
        assert (await explain(servicer, stage, "--target", "b"))[1] == COUNT
        await stage.publish("b", 1)
        assert (await explain(servicer, stage, "--target", "b"))[1] == COUNT


async def test_run_that_was_cut_off_goes_on_to_the_summary_of_one_that_was_not(stage):
    calls = 0

    async def away_at_the_second(_) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Unavailable("Triton is away")

    async with serve_stage(stage) as (_, servicer):
        stage.classifier.before = away_at_the_second
        told, _ = await explain(servicer, stage)
        assert told.exit_code == 1
        assert "goes on from there" in told.output
        kept = len(list((stage.root / "out").rglob("*.json")))
        assert 0 < kept < COUNT
        told, sent = await explain(servicer, stage)
        assert (told.exit_code, sent) == (0, COUNT - kept), told.output
        await explain(servicer, stage, out="whole")
    resumed, whole = summary(stage), summary(stage, "whole")
    found, expected = resumed.pop("classes"), whole.pop("classes")
    assert resumed == whole
    assert set(found) == set(expected)
    for label in expected:  # float32 sums depend on which pictures were in work together
        assert found[label] == pytest.approx(expected[label])


async def test_summary_has_a_mean_map_where_sizes_agree(stage):
    async with serve_stage(stage) as (_, servicer):
        await explain(servicer, stage)
        classes = summary(stage)["classes"]
        assert set(classes) == {"a", "b"}
        assert sum(found["picture_count"] for found in classes.values()) == COUNT
        assert {found["largest_mean_evidence"] for found in classes.values()} == {2.0}
        drawn = np.asarray(Image.open(stage.root / "out" / "mean-evidence-a.png"))
        assert (drawn[5, 5], drawn[0, 0], drawn[3, 3]) == (255, 128, 0)
        (stage.root / "pictures" / "wide.png").write_bytes(png(np.zeros((6, 12), np.uint8)))
        await explain(servicer, stage)
    sizes_agree = [found["mean_evidence_png"] is not None for found in summary(stage)["classes"].values()]
    assert sorted(sizes_agree) == [False, True]


async def test_folder_without_a_place_to_write_to_is_refused_before_anything_is_asked(stage):
    told = run_command("explain", str(stage.root / "pictures"), "--model", "net")
    assert told.exit_code == 1
    assert "needs --out" in told.output


@pytest.mark.parametrize("out", ["pictures", "."])
async def test_place_to_write_to_that_holds_the_pictures_is_refused_for_the_next_run_would_explain_ours(stage, out):
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage, out=out)
    assert (told.exit_code, sent) == (1, 0)
    assert "holds the pictures" in told.output


async def test_place_to_write_to_among_the_pictures_is_not_explained_itself(stage):
    async with serve_stage(stage) as (_, servicer):
        assert (await explain(servicer, stage, out="pictures/explained"))[1] == COUNT
        assert (await explain(servicer, stage, out="pictures/explained"))[1] == 0


async def test_large_pictures_are_sent_in_pieces_and_summed_up_with_the_others(stage, monkeypatch):
    monkeypatch.setattr(client, "UPLOAD_FROM_PIXELS", 36)
    large = {"good.png": png(np.zeros((9, 9), np.uint8)), "bad.png": png(np.zeros((9, 9), np.uint8))[:-9]}
    for name, data in large.items():
        (stage.root / "pictures" / name).write_bytes(data)
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage)
        again, sent_again = await explain(servicer, stage)
    assert (told.exit_code, sent, sent_again) == (1, COUNT, 0)
    assert "bad.png: explainer: piece: broken or truncated picture" in told.output
    assert np.load(stage.root / "out" / "good.png.map.npy").shape == (9, 9)
    assert summary(stage)["picture_count"] == COUNT + 1
    assert f"{COUNT + 1} of {COUNT + 2} pictures were explained before" in again.output


@pytest.mark.parametrize(("ending", "length"), [("map.npy", 0), ("map.npy", 100), ("explained.png", 0)])
async def test_explanation_that_lost_its_end_with_the_power_is_asked_for_again(stage, ending, length):
    async with serve_stage(stage) as (_, servicer):
        await explain(servicer, stage)
        whole = (stage.root / "out" / "set0" / f"00.png.{ending}").read_bytes()
        os.truncate(stage.root / "out" / "set0" / f"00.png.{ending}", length)
        told, sent = await explain(servicer, stage)
    assert (told.exit_code, sent) == (0, 1), told.output
    assert (stage.root / "out" / "set0" / f"00.png.{ending}").read_bytes() == whole


@pytest.mark.parametrize("found", [b"[]", b"{}", b'"text"'])
async def test_json_of_somebody_else_is_no_explanation(stage, found):
    async with serve_stage(stage) as (_, servicer):
        (stage.root / "out" / "set0").mkdir(parents=True)
        (stage.root / "out" / "set0" / "00.png.json").write_bytes(found)
        told, sent = await explain(servicer, stage)
    assert (told.exit_code, sent) == (0, COUNT), told.output


async def test_picture_whose_name_can_not_travel_or_be_written_beside_costs_no_other(stage):
    folder = stage.root / "pictures"
    for name in (os.fsdecode(b"\xff.png"), f"{'a' * 235}.png", f"{'b' * 230}.png"):
        (folder / name).write_bytes(png(np.zeros((6, 6), np.uint8)))
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage)
    assert (told.exit_code, sent) == (1, COUNT + 1)
    assert "\\udcff.png: name that is no UTF-8" in told.output
    assert "a.png: name of 239 bytes; at most 235 are taken" in told.output
    assert "2 of 43 pictures are not explained" in told.output
    assert summary(stage)["picture_count"] == COUNT + 1


async def test_hidden_folders_are_left_out_as_hidden_files_are(stage):
    (stage.root / "pictures" / ".thumbnails").mkdir()
    (stage.root / "pictures" / ".thumbnails" / "00.png").write_bytes(png(np.zeros((6, 6), np.uint8)))
    async with serve_stage(stage) as (_, servicer):
        told, sent = await explain(servicer, stage)
    assert (told.exit_code, sent) == (0, COUNT), told.output

"""A few steps of the recipe: both stages run, a run resumes, and a later vocabulary starts from an earlier one."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from services.lvlm.nano import building, train
from services.lvlm.nano.draw import draw_shard
from services.lvlm.nano.worlds import WORLDS, open_world


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for name, world in WORLDS.items():
        np.save(folder / f"{name}-0000.npy", draw_shard(1, "train", world, open_world(name), scene_count=6))
    return folder


def test_recipe_trains_both_stages_and_resumes(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"eyes": train.StepSize(looked_at=3), "all": train.StepSize(3, asked_about=2, searched=1, text_only=3)}
    monkeypatch.setattr(train, "STEP_SIZES", small)
    monkeypatch.setattr(train, "TOKENIZER_TEXT_COUNT", 300)
    monkeypatch.setattr(train, "LOG_STEPS", 1)
    where = ["--shards", str(shards), "--work", str(tmp_path / "work"), "--out", str(tmp_path / "model")]
    elapsed_s = 0.0
    for eyes_ratio, stage in ((1.0, 1), (0.0, 2)):  # the clock has room for one step each
        monkeypatch.setattr(train, "EYES_RATIO", eyes_ratio)
        minutes = (elapsed_s + 0.06) / 60  # the log rounds to tenths
        monkeypatch.setattr(sys, "argv", ["train", *where, "--minutes", str(minutes), "--resume"])
        train.main()
        lines = (tmp_path / "work" / "log.jsonl").read_text(encoding="utf-8").splitlines()
        entry = json.loads(lines[-1])
        assert (entry["stage"], entry["step"], len(lines)) == (stage, stage, stage)
        elapsed_s = entry["elapsed_s"]
    assert {f"{part}_loss" for part in ("dense", "picture", "regions", "text", "reading", "shares")} <= set(entry)
    assert LlavaForConditionalGeneration.from_pretrained(tmp_path / "model")
    cooled = [*where[:2], "--work", str(tmp_path / "cooled"), "--out", str(tmp_path / "ended"), "--minutes", "0.001"]
    monkeypatch.setattr(sys, "argv", ["train", *cooled, "--start", str(tmp_path / "model"), "--cool-down"])
    train.main()
    entry = json.loads((tmp_path / "cooled" / "log.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert (entry["stage"], entry["rate"] < train.COOL_DOWN_RATE) == (2, True)
    assert LlavaForConditionalGeneration.from_pretrained(tmp_path / "ended")


def test_cool_down_of_no_earlier_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = [argument for name in ("shards", "work", "out") for argument in (f"--{name}", str(tmp_path / name))]
    monkeypatch.setattr(sys, "argv", ["train", *where, "--cool-down"])
    with pytest.raises(SystemExit):
        train.main()
    assert "--cool-down: expected --start" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_later_vocabulary_starts_from_the_earlier_words(tmp_path: Path) -> None:
    first, second = (building.train_tokenizer(texts) for texts in (["the digit"] * 9, ["the digit of the lung"] * 9))
    earlier = building.build_model(first, seed=0)
    earlier.save_pretrained(tmp_path)
    building.build_processor(first).save_pretrained(tmp_path)
    later = building.build_model(second, seed=1)
    building.carry_over(later, second, tmp_path)
    rows = [model.get_input_embeddings().weight for model in (later, earlier)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for token in set(first.get_vocab()) & set(second.get_vocab()):
        assert torch.equal(rows[0][second.get_vocab()[token]], rows[1][tokenizer.get_vocab()[token]])
    assert torch.isfinite(rows[0]).all()

"""A folder of pictures explained on a real Triton that is killed in the midst."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from click.testing import Result
from typer.testing import CliRunner

from plumbline.cli import app
from tests.conftest import Served

COUNT = 300
PATIENCE_S = 90.0
LOGIT_TOLERANCE = 1e-4  # float32 sums in another order


def explain(served: Served, folder: Path, out: Path) -> Result:
    command = ["--state", str(served.layout.state), "explain", str(folder), "--model", served.name, "--out", str(out)]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200"})


def written(out: Path) -> set[str]:
    return {path.name.removesuffix(".json") for path in out.glob("*.png.json")}


def test_folder_whose_triton_died_is_explained_by_the_same_command_again_without_what_was_done(served, tmp_path):
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    pictures = {Path(name).name: data for name, data in served.pictures[:COUNT]}
    for name, data in pictures.items():
        (folder / name).write_bytes(data)
    end = time.monotonic() + PATIENCE_S
    with ThreadPoolExecutor() as threads:
        first = threads.submit(explain, served, folder, out)
        while not written(out) and time.monotonic() < end:
            time.sleep(0.01)
        psutil.Process(served.layout.read_pids()["triton"]).kill()
        assert first.result().exit_code == 1, first.result().output
    assert "same command goes on from there" in first.result().output
    kept = {name: (out / f"{name}.json").stat().st_mtime_ns for name in written(out)}
    assert 0 < len(kept) < COUNT
    while (told := explain(served, folder, out)).exit_code and time.monotonic() < end:
        time.sleep(0.5)
    assert told.exit_code == 0, told.output
    assert written(out) == set(pictures)
    assert {name: (out / f"{name}.json").stat().st_mtime_ns for name in kept} == kept
    classes = json.loads((out / "summary.json").read_bytes())["classes"]
    assert sum(found["picture_count"] for found in classes.values()) == COUNT

    name, data = next(iter(pictures.items()))
    alone = served.client.explain(served.name, [(name, data)])[1][0]
    evidence = np.frombuffer(alone.attribution.data, "<f4").reshape(alone.attribution.shape)
    assert np.abs(np.load(out / f"{name}.map.npy") - evidence).max() < LOGIT_TOLERANCE

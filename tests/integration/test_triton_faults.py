"""What a real Triton bears: passes that fail, answers that can't be made or sent, callers who leave meanwhile; and that it tells what it has loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest

from plumbline.stack.processes import free_port, start, stop
from plumbline.stack.triton import triton_command
from services.common.runtime.errors import Unavailable
from services.explainer.adapters import triton_classifier
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.adapters.triton_classifier import TritonClassifier
from services.explainer.ports import LoadLost, ServedVersion
from tests.unit.explainer.made_up import write_bundle

FAULTY = b'''
import time

from services.explainer.triton.backend import TritonPythonModel as Real

SLOW, UNSENT, UNMADE, FATAL = 96, 97, 98, 99


class Unsendable:
    def __init__(self, request):
        self._request = request

    def __getattr__(self, name):
        return getattr(self._request, name)

    def get_response_sender(self):
        raise RuntimeError("shared memory is full")


class TritonPythonModel(Real):
    """Fails, or takes its time, where a picture's first pixel says so."""

    def initialize(self, args):
        super().initialize(args)
        forward = self._bundle.model.forward

        def faulty(pixel_values):
            if (pixel_values == FATAL).any():
                raise RuntimeError("the pass failed")
            if (pixel_values == SLOW).any():
                time.sleep(1.5)
            return forward(pixel_values=pixel_values)

        self._bundle.model.forward = faulty

    def execute(self, requests):
        first = [self._read(request, "PIXEL_VALUES")[0, 0, 0, 0] for request in requests]
        super().execute([Unsendable(request) if pixel == UNSENT else request for request, pixel in zip(requests, first)])

    def _classify(self, requests):
        pixels, answers = super()._classify(requests)
        return pixels, [None if (part == UNMADE).any() else answer for part, answer in zip(pixels, answers)]
'''
SLOW, UNSENT, UNMADE, FATAL = 96, 97, 98, 99
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Triton that has loaded nothing."""
    folder, port = tmp_path_factory.mktemp("triton"), free_port()
    child = start(triton_command(folder / "models", folder, port, free_port()), folder)
    yield f"127.0.0.1:{port}"
    stop([child])


@pytest.fixture
async def classifier(address: str) -> AsyncIterator[TritonClassifier]:
    classifier = TritonClassifier(address, load_timeout_s=PATIENCE_S)
    yield classifier
    for name, version in await classifier.loaded():
        await classifier.unload(name, version)
    await classifier.close()


@pytest.fixture
def repository(tmp_path: Path) -> FolderRepository:
    write_bundle(tmp_path / "bundle")
    repository = FolderRepository(tmp_path / "models")
    for name in ("net", "other"):
        repository.add_version(name, tmp_path / "bundle", "key")
    return repository


async def load(classifier: TritonClassifier, repository: FolderRepository, name: str) -> ServedVersion:
    served = repository.version(name, 1)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await classifier.load(served, repository.bundle(name, 1))
                return served
            except Unavailable:  # it has just been started
                await asyncio.sleep(0.1)


@pytest.fixture
async def faulty(
    classifier: TritonClassifier, repository: FolderRepository, monkeypatch: pytest.MonkeyPatch
) -> ServedVersion:
    with monkeypatch.context() as patch:
        patch.setattr(triton_classifier, "FILES", {"file:1/model.py": FAULTY})
        return await load(classifier, repository, "net")


async def ask_together(
    classifier: TritonClassifier, served: ServedVersion, calls: list[tuple[float, float]]
) -> list[str]:
    """What became of calls, each of a picture and a time in seconds, that one batch takes: they wait for a slow one."""

    async def ask(pixel: float, timeout_s: float) -> str:
        try:
            await classifier.infer(served, np.full((1, 1, 6, 6), pixel, np.float32), timeout_s)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "answered"

    slow = asyncio.create_task(ask(SLOW, PATIENCE_S))
    await asyncio.sleep(0.3)
    told = await asyncio.gather(*(ask(*call) for call in calls))
    assert await slow == "answered"
    return told


async def check_alive(classifier: TritonClassifier, repository: FolderRepository, faulty: ServedVersion) -> None:
    """The model still answers, and so does one that is loaded now."""
    other = await load(classifier, repository, "other")
    for served in (faulty, other):
        assert (await classifier.infer(served, np.zeros((1, 1, 6, 6), np.float32), PATIENCE_S)).logits.shape == (1, 2)


async def test_pass_that_fails_over_a_batch_that_a_caller_left_is_told_to_the_others_and_harms_nobody(
    classifier, repository, faulty
):
    left, *told = await ask_together(classifier, faulty, [(1, 0.5), (FATAL, PATIENCE_S), (2, PATIENCE_S)])
    assert left.startswith("DeadlineExceeded")
    assert ["the model failed: RuntimeError: the pass failed" in each for each in told] == [True, True], told
    await check_alive(classifier, repository, faulty)


async def test_answer_that_cannot_be_made_or_sent_harms_no_other(classifier, repository, faulty):
    calls = [(1, PATIENCE_S), (UNMADE, PATIENCE_S), (UNSENT, 3.0), (2, PATIENCE_S)]
    before, unmade, unsent, after = await ask_together(classifier, faulty, calls)
    assert (before, after) == ("answered", "answered")
    assert "the model failed: AttributeError" in unmade
    assert unsent.startswith("DeadlineExceeded")
    await check_alive(classifier, repository, faulty)


async def test_version_whose_process_dies_while_it_loads_is_lost_and_the_server_is_not(
    classifier, repository, monkeypatch
):
    other = await load(classifier, repository, "other")
    dying = {"file:1/model.py": b"import os, signal; os.kill(os.getpid(), signal.SIGKILL)"}
    monkeypatch.setattr(triton_classifier, "FILES", dying)
    with pytest.raises(LoadLost, match=r"load net\.1"):
        await classifier.load(repository.version("net", 1), repository.bundle("net", 1))
    assert await classifier.is_ready(other.name, other.version)


async def test_classifier_tells_what_is_loaded(classifier, repository):
    await load(classifier, repository, "net")
    other = await load(classifier, repository, "other")
    assert sorted(await classifier.loaded()) == [("net", 1), ("other", 1)]
    await classifier.unload(other.name, other.version)
    async with asyncio.timeout(PATIENCE_S):
        while await classifier.loaded() != [("net", 1)]:
            await asyncio.sleep(0.05)

"""What Triton is asked and how the models stand, in numbers. The repository is real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import REGISTRY

from services.common.runtime.errors import Overloaded
from services.explainer.adapters.folder_repository import FolderRepository
from services.explainer.adapters.metered_classifier import MeteredClassifier
from services.explainer.adapters.model_gauges import ModelGauges
from services.explainer.ports import Question
from tests.unit.explainer.fakes import InProcessClassifier
from tests.unit.explainer.made_up import write_bundle
from tests.unit.explainer.shadow_stage import SIDE, make_stage


def read(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"plumbline_explainer_{name}", labels)


@pytest.mark.parametrize(("question", "kind"), [(None, "PREDICT"), (Question("GRADIENT"), "EXPLAIN")])
async def test_a_batch_is_counted_with_its_size_and_its_time(tmp_path: Path, question: Question | None, kind: str):
    stage = await make_stage(tmp_path)
    names = ("inference_pictures_sum", "inference_pictures_count", "inference_seconds_count")
    before = [read(name, question=kind) or 0 for name in names]
    pixel_values = np.zeros((5, 1, SIDE, SIDE), dtype=np.float32)
    answers = await MeteredClassifier(stage.classifier).infer(
        stage.repository.version("net", 1), pixel_values, 5.0, question
    )
    assert len(answers.logits) == 5
    after = [read(name, question=kind) for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [5, 1, 1]


@pytest.mark.parametrize(("error", "kind"), [(Overloaded("full"), "OVERLOADED"), (ZeroDivisionError(), "BUG")])
async def test_a_batch_without_an_answer_is_counted_by_the_reason(tmp_path: Path, error: Exception, kind: str):
    stage = await make_stage(tmp_path)

    async def fail(_: object) -> None:
        raise error

    stage.classifier.before, before = fail, read("inference_failures_total", kind=kind) or 0
    with pytest.raises(type(error)):
        await MeteredClassifier(stage.classifier).infer(stage.repository.version("net", 1), np.zeros((1, 1, 6, 6)), 5.0)
    assert read("inference_failures_total", kind=kind) == before + 1


async def test_models_are_told_with_champion_and_what_answers_and_go_when_they_are_gone(tmp_path: Path):
    write_bundle(tmp_path / "bundle")
    repository, classifier = FolderRepository(tmp_path / "models"), InProcessClassifier()
    for name, count in (("one", 1), ("two", 2), ("unpublished", 1)):
        for number in range(count):
            version = repository.add_version(name, tmp_path / "bundle", f"key-{number}").version
        if name != "unpublished":
            repository.set_champion(name, version)
    await classifier.load(repository.version("one", 1), repository.bundle("one", 1))
    await ModelGauges(classifier, repository).look()
    gauges = ("versions", "versions_ready", "champion_version", "champion_ready")
    assert [read(name, model="one") for name in gauges] == [1, 1, 1, 1]
    assert [read(name, model="two") for name in gauges] == [2, 0, 2, 0]
    assert [read(name, model="unpublished") for name in gauges] == [None] * 4
    await ModelGauges(classifier, FolderRepository(tmp_path / "nothing")).look()
    assert read("champion_ready", model="one") is None

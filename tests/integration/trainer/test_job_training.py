"""One job's training without a worker: the loss that it asked for, and what its numbers and its model card say."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.code_version import code_version
from services.common.runtime.folder_store import FolderStore
from services.common.vision.model_bundle import load_bundle
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.domain import alignment
from services.trainer.domain.criteria import Criteria
from services.trainer.domain.job import Loss
from services.trainer.domain.selection import digest_data
from services.trainer.job_training import train_job
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.unit.trainer.made_up import SIZE, make_request


def _train(tmp_path: Path, **asked: Any) -> dict[str, Any]:
    """The numbers of a critiqued job, trained in this process."""
    trainer = Trainer(tmp_path, broker_url="", listen="")
    job = make_waiting_job(trainer, write_data_and_model(trainer), **asked)
    for batch in make_batches(trainer, job):
        for critique in batch.critiques:
            trainer.record.add_critique(job.job_id, critique)
    return train_job(FolderStore(tmp_path / "store"), DatasetFolder(tmp_path / "data"), job.job_id)


def test_a_job_is_decided_by_the_criteria_that_it_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alignment, "LEAST_STEPS", 100)
    criteria = Criteria(min_class_accuracy=0.5, min_reliance_drop=1.0)
    metrics = _train(tmp_path, criteria=criteria)
    assert metrics["criteria"] == asdict(criteria)
    checks = {check["criterion"]: check for check in metrics["decision"]["checks"]}
    assert checks["no class is worse than 0.5"]["is_met"]
    missed = checks["the part of the decision in criticised regions falls by at least 1"]
    assert not missed["is_met"]
    assert (missed["before"], missed["after"]) == tuple(metrics[when]["reliance"] for when in ("before", "after"))
    assert not metrics["decision"]["is_accepted"]


@pytest.mark.parametrize("loss", [Loss.RRR, Loss.MASK_OUT])
def test_numbers_and_card_tell_the_loss_and_what_segments_of_each_verdict_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: Loss
):
    monkeypatch.setattr(alignment, "LEAST_STEPS", 100)
    metrics = _train(tmp_path, loss=loss)

    held = metrics["evidence_by_verdict"]
    before, after = metrics["before"], metrics["after"]
    assert held["SPURIOUS"] == {
        "before": before["reliance"],
        "after": after["reliance"],
        "floor": before["reliance_floor"],
    }
    assert held["SPURIOUS"]["floor"] == pytest.approx(4 / (SIZE[0] * SIZE[1]))
    assert held["SPURIOUS"]["after"] < held["SPURIOUS"]["before"]
    assert held["CORE"]["after"] > held["CORE"]["before"]
    assert held["UNSURE"] is None

    bundle = tmp_path / "store" / metrics["bundle_path"]
    assert load_bundle(bundle).provenance["loss"] == loss
    assert f"loss {loss} with λ = {metrics['chosen']['strength']:g}" in (bundle / "README.md").read_text()


def test_bundle_and_card_say_what_the_challenger_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(alignment, "LEAST_STEPS", 100)
    metrics = _train(tmp_path)
    bundle = tmp_path / "store" / metrics["bundle_path"]
    told, card = load_bundle(bundle).provenance, (bundle / "README.md").read_text()
    samples = DatasetFolder(tmp_path / "data").read(make_request().dataset_path)
    assert told["specification_digest"] == make_request().specification_digest
    assert told["data_digest"] == digest_data((sample.label, sample.digest) for sample in samples)
    assert told["code_version"] == code_version()
    assert told["metrics_path"] == f"jobs/{told['job_id']}/metrics.json"
    names = ("specification_digest", "critiques_digest", "data_digest", "code_version", "metrics_path")
    assert all(f"{name}: `{told[name]}`" in card for name in names)

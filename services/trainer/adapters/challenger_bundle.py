"""The challenger as a bundle in the store, with what it came from and a card that tells it to people."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from services.common.runtime.artifact_store import ArtifactStore
from services.common.runtime.code_version import code_version
from services.common.runtime.errors import AlreadyExists
from services.common.vision.critique import Critique
from services.common.vision.model_bundle import BASELINES, PREPROCESSING, save_bundle
from services.trainer.adapters.job_record import bundle_path
from services.trainer.domain.alignment import Alignment
from services.trainer.domain.gate import Decision
from services.trainer.domain.job import Job
from services.trainer.domain.selection import digest_data
from services.trainer.handlers.training import METRICS
from services.trainer.ports import Sample

_LINEAGE = ("specification_digest", "critiques_digest", "data_digest", "code_version", "metrics_path")


def write_challenger(
    store: ArtifactStore,
    job: Job,
    parent: Path,
    result: Alignment,
    decision: Decision,
    critiques: Sequence[Critique],
    samples: Sequence[Sample],
) -> str:
    """Write what `job` made of the bundle in the folder `parent`, accepted or not; returns its path in the store."""
    critiques_digest = hashlib.sha256("".join(critique.model_dump_json() for critique in critiques).encode())
    provenance = {
        "made_by": "plumbline.trainer",
        "job_id": job.job_id,
        "parent": {"version": job.request.model_version, "digest": job.request.model_digest},
        "specification_digest": job.request.specification_digest,
        "critiques_digest": f"sha256:{critiques_digest.hexdigest()}",
        "data_digest": digest_data((sample.label, sample.digest) for sample in samples),
        "code_version": code_version(),
        "metrics_path": f"jobs/{job.job_id}/{METRICS}",
        **asdict(result.chosen.setting),
        "step": result.chosen.step,
        "seed": job.request.seed,
        "loss": job.request.loss.value,
        "selection": job.request.selection.value,
    }
    baselines = parent / BASELINES
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        digest = save_bundle(
            Path(folder) / "bundle",
            result.model,
            json.loads((parent / PREPROCESSING).read_text()),
            load_file(baselines)["baselines"] if baselines.is_file() else None,
            provenance,
            _write_card(job, result, decision, provenance),
        )
        path = bundle_path(job.request.model_name, digest)
        with contextlib.suppress(AlreadyExists):  # the same job trained again gives the same bundle
            store.create_folder(path, Path(folder) / "bundle")
    return path


def _write_card(job: Job, result: Alignment, decision: Decision, provenance: dict[str, Any]) -> str:
    rules = "\n".join(
        f"- **{rule.class_name}**: should matter: {rule.should_matter or '–'}; must not matter: {rule.should_not_matter or '–'}"
        for rule in job.request.specification.rules
    )
    origin = "\n".join(f"- {name}: `{provenance[name]}`" for name in _LINEAGE)
    checks = "\n".join(f"| {c.criterion} | {c.before} | {c.after} | {c.is_met} |" for c in decision.checks)
    return (
        f"# {job.request.model_name}, aligned\n\nFine-tuned from version {job.request.model_version} "
        f"(`{job.request.model_digest}`) by job `{job.job_id}`, loss {job.request.loss} with λ = {result.chosen.setting.strength:g}, "
        f"{result.chosen.step} steps.\n\n## What the experts said\n\n{rules}\n\n## Gate\n\n"
        f"| criterion | before | after | met |\n|---|---|---|---|\n{checks}\n\n## What it came from\n\n{origin}\n"
    )

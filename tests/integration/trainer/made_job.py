"""A job that stands where the critiquing step leaves it: real pictures, a real model in the store, and critiques still to come."""

from __future__ import annotations

import io
from typing import Any

import torch
from PIL import Image

from services.common.vision.critique import Critique, CritiqueBatch, split_into_batches
from services.common.vision.model_bundle import save_bundle
from services.trainer.adapters.dataset_folder import DatasetFolder
from services.trainer.adapters.job_record import bundle_path
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.selection import digest_table, select_held_out, split_rows
from services.trainer.handlers.completing import ASKED, EXPECTED, SPLIT
from tests.integration.trainer.conftest import Trainer
from tests.unit.trainer.made_up import SIZE, make_critique, make_request
from tests.unit.trainer.shortcut_set import make_pictures, train_shortcut

_ZERO, _SCALE = 128.0, 50.0
PREPROCESSING = {
    "do_resize": True,
    "size": {"height": SIZE[0], "width": SIZE[1]},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [_ZERO / 255],
    "image_std": [_SCALE / 255],
}
PICTURE_COUNT = 450


def write_data_and_model(trainer: Trainer) -> str:
    """Write the stripes as PNG files and a model that learned the corner; returns the model's digest."""
    torch.set_num_threads(1)
    pictures = make_pictures(PICTURE_COUNT, seed=0)
    folder = trainer.root / "data" / "stripes"
    folder.mkdir(parents=True)
    rows = []
    grey = (pictures.pixels[:, 0] * _SCALE + _ZERO).clamp(0, 255).round().to(torch.uint8).numpy()
    for number, (pixels, label) in enumerate(zip(grey, pictures.labels.tolist(), strict=True)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        (folder / f"{number:04d}.png").write_bytes(file.getvalue())
        rows.append(f"{number:04d}.png,{label}\n")
    (folder / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    model = train_shortcut(pictures)
    digest = save_bundle(trainer.root / "bundle", model, PREPROCESSING, pictures.pixels[:4].clone(), {}, "# stripes\n")
    trainer.store.create_folder(bundle_path("stripes", digest), trainer.root / "bundle")
    return digest


def make_waiting_job(trainer: Trainer, digest: str, **changes: Any) -> Job:
    """A job in CRITIQUING that has asked for 20 training pictures of each class and the held-out ones."""
    record = trainer.record
    samples = DatasetFolder(trainer.root / "data").read("stripes")
    labels = [sample.label for sample in samples]
    job = record.advance(record.file(make_request(model_digest=digest, **changes)), JobState.CRITIQUING)
    split = split_rows(labels, job.request.seed)
    train = [row for label in "012" for row in [row for row in split.train if labels[row] == label][:20]]
    rows = [(row, "train") for row in train]
    rows += [(row, "held_out") for row in select_held_out(labels, split.validation, job.request.seed)]
    expected = {}
    for row, part in rows:
        sample = samples[row]
        expected[sample.digest] = {
            "file_name": sample.file_name,
            "label": sample.label,
            "part": part,
            "size": list(SIZE),
        }
        record.add_picture(job.job_id, sample.digest, sample.path.read_bytes())
    table = digest_table((sample.file_name, sample.label, sample.digest) for sample in samples)
    record.write_once(job.job_id, SPLIT, {"table_digest": table})
    record.write_once(job.job_id, EXPECTED, expected)
    record.write_once(job.job_id, ASKED, list(expected))
    return job


def make_batches(trainer: Trainer, job: Job, is_spurious: bool = True) -> list[CritiqueBatch]:
    """A person's critiques of all pictures: the corner is spurious, or nothing is."""
    critiques = []
    for digest, entry in trainer.record.read(job.job_id, EXPECTED).items():
        critique = make_critique(
            digest.removeprefix("sha256:"), entry["label"], entry["file_name"], model_digest=job.request.model_digest
        )
        critiques.append(critique if is_spurious else _without_spurious(critique))
    return split_into_batches(job.job_id, critiques)


def _without_spurious(critique: Critique) -> Critique:
    content = critique.model_dump(mode="json")
    for verdict in content["verdicts"]:
        verdict["verdict"] = "CORE"
    return Critique.model_validate(content)

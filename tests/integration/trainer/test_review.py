"""People in the loop over the real API, worker and Redis, from the command line: critiques pushed, reviewed, and trained as reviewed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import celery
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from plumbline.cli import app
from plumbline.client import Client
from plumbline.errors import PlumblineError
from plumbline.stack.processes import free_port
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.queues import CONSUME_CRITIQUES_TASK, CRITIQUES_QUEUE, JOBS_QUEUE, TRAIN_TASK
from services.trainer.domain.job import Job, JobState
from services.trainer.handlers.completing import EXPECTED
from tests.integration.trainer.conftest import Trainer
from tests.integration.trainer.made_job import make_batches, make_waiting_job, write_data_and_model
from tests.support.waiting import wait_for

TRAINED_S = 120.0
NOWHERE = f"127.0.0.1:{free_port()}"


@pytest.fixture
def client(trainer: Trainer) -> Iterator[Client]:
    """API and worker are up."""
    trainer.start("api")
    trainer.start("worker", lease_s="2", recovery_interval_s="1")
    with Client(explainer=NOWHERE, lvlm=NOWHERE, trainer=trainer.listen) as made:
        wait_for(lambda: _answers(made), 30)
        yield made


def _answers(client: Client) -> bool:
    try:
        client.jobs()
    except PlumblineError:
        return False
    return True


def _plumbline(trainer: Trainer, *arguments: str | Path) -> Result:
    addresses = ["--explainer", NOWHERE, "--lvlm", NOWHERE, "--trainer", trainer.listen]
    return CliRunner().invoke(app, [*addresses, *map(str, arguments)], env={"COLUMNS": "200"})


def _push(trainer: Trainer, job: Job, is_spurious: bool = True) -> Result:
    path = trainer.root / f"{job.job_id}.json"
    path.write_text(json.dumps([batch.model_dump(mode="json") for batch in make_batches(trainer, job, is_spurious)]))
    return _plumbline(trainer, "critiques", "push", path, "--job", job.job_id)


def _wait_for(trainer: Trainer, job: Job, state: JobState) -> Job:
    def look() -> Job | None:
        found = trainer.record.load(job.job_id)
        assert found.state == state or not found.state.is_final, found.events[-1].reason + trainer.logs()[-3000:]
        return found if found.state == state else None

    return wait_for(look, TRAINED_S)


def _digests(trainer: Trainer, job: Job, part: str) -> list[str]:
    expected = trainer.record.read(job.job_id, EXPECTED)
    return sorted(digest for digest, entry in expected.items() if entry["part"] == part)


def test_a_reviewed_job_waits_whatever_comes_and_trains_as_it_was_reviewed(trainer: Trainer, client: Client):
    model = write_data_and_model(trainer)
    job = make_waiting_job(trainer, model, review=True)
    pushed = _push(trainer, job)
    total = len(trainer.record.read(job.job_id, EXPECTED))
    assert (pushed.exit_code, f"{total} taken, 0 there already, 0 set aside" in pushed.output) == (0, True)
    assert client.job(job.job_id).state == pb.JOB_STATE_AWAITING_REVIEW

    with celery.Celery(broker=trainer.broker_url, set_as_current=False) as outside:
        outside.send_task(TRAIN_TASK, kwargs={"job_id": job.job_id}, queue=JOBS_QUEUE, ignore_result=True)
    other = make_waiting_job(trainer, model)
    _push(trainer, other, is_spurious=False)
    _wait_for(trainer, other, JobState.REJECTED)
    assert trainer.record.load(job.job_id).state == JobState.AWAITING_REVIEW

    rejected, edited, *_ = _digests(trainer, job, "train")
    unmeasured = _digests(trainer, job, "held_out")[0]
    kept = trainer.record.critique(job.job_id, edited).model_dump(mode="json")
    kept["verdicts"][0]["verdict"] = "CORE"
    (trainer.root / "edit.json").write_text(json.dumps(kept))
    ada = ["review", job.job_id, "--reviewer", "Dr. Ada"]
    short = rejected.removeprefix("sha256:")[:16]
    said = _plumbline(
        trainer,
        *ada,
        "--reject",
        short,
        "--reject",
        unmeasured,
        "--edit",
        trainer.root / "edit.json",
        "--reason",
        "no!",
    )
    assert f"{total} critiques: 0 accepted, 2 rejected, 1 edited, {total - 3} without a decision" in said.output
    refused = _plumbline(trainer, *ada, "--finish")
    assert (refused.exit_code, f"{total - 3} of {total}" in refused.output) == (1, True)
    page = trainer.root / "review.html"
    assert _plumbline(trainer, "review", job.job_id, "--page", page).exit_code == 0
    assert page.read_text().count('<b class="REJECT">REJECT</b> by Dr. Ada') == 2

    assert _plumbline(trainer, *ada, "--finish", "--accept-rest").exit_code == 0
    states = [event.state for event in _wait_for(trainer, job, JobState.EVALUATING).events]
    waiting = [JobState.QUEUED, JobState.CRITIQUING, JobState.AWAITING_REVIEW]
    assert states == [*waiting, JobState.TRAINING, JobState.EVALUATING]
    pictures = trainer.record.read(job.job_id, "metrics.json")["pictures"]
    train_count, held_out_count = (len(_digests(trainer, job, part)) for part in ("train", "held_out"))
    assert pictures["critiqued"] == train_count - 1
    assert pictures["masked"] == train_count - 2
    assert pictures["held_out"] == held_out_count - 1
    late = _plumbline(trainer, *ada, "--accept", rejected)
    assert (late.exit_code, "FAILED_PRECONDITION" in late.output) == (1, True)
    listed = {image.critique.image_digest: image for image in client.critiques(job.job_id)}
    assert listed[edited].critique.verdicts[0].verdict != listed[edited].review.edit.verdicts[0].verdict
    assert (listed[rejected].review.reviewer, listed[rejected].review.reason) == ("Dr. Ada", "no!")


def test_a_job_with_everything_rejected_ends_with_nothing_to_align(trainer: Trainer, client: Client):
    job = make_waiting_job(trainer, write_data_and_model(trainer), review=True)
    _push(trainer, job)
    digests = sorted(trainer.record.read(job.job_id, EXPECTED))
    decisions = [pb.PictureDecision(image_digest=digest, decision="REVIEW_DECISION_REJECT") for digest in digests]
    reply = client.review(job.job_id, "Dr. Ada", decisions)
    assert (reply.decided_count, reply.open_count) == (len(digests), 0)
    for _ in range(3):
        client.finish_review(job.job_id, "Dr. Ada")
    assert "nothing to align" in _wait_for(trainer, job, JobState.REJECTED).events[-1].reason


def test_what_is_wrong_with_a_review_or_a_push_is_named(trainer: Trainer, client: Client):
    job = make_waiting_job(trainer, write_data_and_model(trainer), review=True)
    _push(trainer, job)
    digest = _digests(trainer, job, "train")[0]
    good = pb.PictureDecision(image_digest=digest, decision="REVIEW_DECISION_ACCEPT")
    unknown = pb.PictureDecision(image_digest=f"sha256:{'e' * 64}", decision="REVIEW_DECISION_ACCEPT")
    undecided = pb.PictureDecision(image_digest=digest)
    for call, code, field in (
        (
            lambda: client.review(job.job_id, "Dr. Ada", [good, unknown]),
            "INVALID_ARGUMENT",
            "decisions[1].image_digest",
        ),
        (lambda: client.review(job.job_id, "Dr. Ada", [undecided]), "INVALID_ARGUMENT", "decisions[0].decision"),
        (lambda: client.review(job.job_id, "", [good]), "INVALID_ARGUMENT", "reviewer"),
        (lambda: client.review("nobody", "Dr. Ada", [good]), "NOT_FOUND", ""),
        (lambda: client.finish_review("nobody", "Dr. Ada"), "NOT_FOUND", ""),
        (lambda: client.finish_review(job.job_id, "Dr. Ada"), "FAILED_PRECONDITION", ""),
        (lambda: list(client.pictures("nobody")), "NOT_FOUND", ""),
        (lambda: client.push("{"), "INVALID_ARGUMENT", "batch_json"),
        (lambda: client.push("[" * 100_000), "INVALID_ARGUMENT", "batch_json"),
        (lambda: client.push('{"job_id": "nobody", "critiques": []}'), "NOT_FOUND", ""),
        (lambda: client.push(json.dumps({"job_id": job.job_id, "critiques": []})), "INVALID_ARGUMENT", "batch_json"),
    ):
        with pytest.raises(PlumblineError) as caught:
            call()
        assert (caught.value.code, caught.value.field) == (code, field)
    strange = {"job_id": job.job_id, "critiques": [{"image_id": "\ud800"}]}
    (pushed,) = client.push(json.dumps(strange))
    assert (pushed.image_id, pushed.outcome) == ("?", pb.PUSH_OUTCOME_SET_ASIDE)


def _kept(trainer: Trainer, job: Job) -> dict[str, bytes]:
    """What critiques left in a job's record, by path."""
    folder = trainer.root / "store" / "jobs" / job.job_id
    paths = [path for name in ("critiques", "set_aside") for path in (folder / name).glob("*.json")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_the_same_batch_by_queue_and_by_call_leaves_the_same_record(trainer: Trainer, client: Client):
    model = write_data_and_model(trainer)
    queued, pushed = make_waiting_job(trainer, model), make_waiting_job(trainer, model)
    contents = make_batches(trainer, queued)[0].model_dump(mode="json")["critiques"]
    contents[1]["true_label"], contents[2] = "9", {"patient": "Jane"}
    with celery.Celery(broker=trainer.broker_url, set_as_current=False) as outside:
        batch = {"job_id": queued.job_id, "critiques": contents}
        outside.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": batch}, queue=CRITIQUES_QUEUE, ignore_result=True)
    told = client.push(json.dumps({"job_id": pushed.job_id, "critiques": contents}))
    assert [critique.outcome == pb.PUSH_OUTCOME_TAKEN for critique in told].count(False) == 2
    wait_for(lambda: len(_kept(trainer, queued)) == len(contents), 60)
    assert _kept(trainer, queued) == _kept(trainer, pushed)


def test_a_label_tools_masks_and_annotations_come_in_and_go_out_again(trainer: Trainer, client: Client, tmp_path: Path):
    job = make_waiting_job(trainer, write_data_and_model(trainer))
    first, second, third = sorted(client.pictures(job.job_id), key=lambda picture: picture.image_digest)[:3]
    masks = tmp_path / "masks"
    masks.mkdir()
    corner = np.zeros((first.height_px, first.width_px), np.uint8)
    corner[:2, :2] = 255
    Image.fromarray(corner).save(masks / f"{Path(first.image_id).stem}.png")
    Image.fromarray(corner[:4]).save(masks / f"{Path(second.image_id).stem}.png")
    said = _plumbline(trainer, "critiques", "push", masks, "--job", job.job_id, "--by", "radiologist")
    assert (said.exit_code, "1 taken, 0 there already, 1 set aside" in said.output) == (1, True)
    coco = {
        "images": [{"id": 1, "file_name": third.image_id, "height": third.height_px, "width": third.width_px}],
        "categories": [{"id": 1, "name": "Spurious"}],
        "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    for outcome in ("1 taken, 0 there already", "0 taken, 1 there already"):
        said = _plumbline(
            trainer, "critiques", "push", tmp_path / "coco.json", "--job", job.job_id, "--by", "radiologist"
        )
        assert (said.exit_code, outcome in said.output) == (0, True)
    kept = [trainer.record.critique(job.job_id, picture.image_digest) for picture in (first, third)]
    assert kept[0].verdicts == kept[1].verdicts
    assert (kept[0].provenance.engine, kept[0].provenance.model_id) == ("person", "radiologist")
    assert trainer.record.critiqued(job.job_id) == {first.image_digest, third.image_digest}

    out = tmp_path / "out"
    assert _plumbline(trainer, "critiques", "export", job.job_id, "--out", out).exit_code == 0
    for file in ("critiques.json", "coco.json"):
        said = _plumbline(trainer, "critiques", "push", out / file, "--job", job.job_id, "--by", "radiologist")
        assert "0 taken, 2 there already, 0 set aside" in said.output
    assert (out / first.image_id).read_bytes() == trainer.record.picture(job.job_id, first.image_digest)

"""The trainer's API, queue and worker on a real Redis, with the whole stack beside them."""

from __future__ import annotations

import json

import celery
import pytest

from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.replay import replay_job
from plumbline.trainer.v1 import trainer_service_pb2 as pb
from services.common.runtime.queues import (
    CONSUME_CRITIQUES_TASK,
    CRITIQUE_TASK,
    CRITIQUES_QUEUE,
    JOBS_QUEUE,
    SUBMIT_TASK,
    TRAIN_TASK,
)
from tests.support.metrics_page import MetricsPage
from tests.support.waiting import wait_for

TRAINER = pb.DESCRIPTOR.services_by_name["TrainerService"].full_name
RULE = {"class_name": "all", "should_matter": "the strokes of the digit", "should_not_matter": "the grey square"}

TYPED = [
    {
        "class_name": "all",
        "concept": "digit",
        "polarity": "POLARITY_MUST",
        "noun_phrases": ["the strokes of the digit"],
    },
    {"class_name": "all", "concept": "square", "polarity": "POLARITY_MUST_NOT", "noun_phrases": ["the grey square"]},
]


def request(**changes) -> pb.SubmitAlignmentRequest:
    content = {
        "model": {"name": "digits"},
        "dataset_path": "decoy",
        "specification": {"task": "Read the digit.", "rules": [RULE]},
        "options": {"images_per_class": 2, "epochs": 1},
    }
    return pb.SubmitAlignmentRequest(**(content | changes))


def specification(*rules: dict) -> dict:
    return {"task": "Read the digit.", "rules": list(rules)}


WRONG = {
    "unknown model": ({"model": {"name": "nobody"}}, "NOT_FOUND", "nobody"),
    "no model": ({"model": {}}, "INVALID_ARGUMENT", "model.name"),
    "unknown class": (
        {"specification": specification(RULE, {"class_name": "eleven", "should_matter": "x"})},
        "INVALID_ARGUMENT",
        "specification.rules[1].class_name",
    ),
    "neither polarity": (
        {"specification": specification({"class_name": "3"})},
        "INVALID_ARGUMENT",
        "specification.rules[0].should_matter",
    ),
    "no rule": ({"specification": specification()}, "INVALID_ARGUMENT", "specification.rules"),
    "class without a rule": (
        {"specification": specification({"class_name": "3", "should_matter": "the bows"})},
        "INVALID_ARGUMENT",
        "specification.rules",
    ),
    "no data set": ({"dataset_path": "nowhere"}, "INVALID_ARGUMENT", "dataset_path"),
    "path out of the data root": ({"dataset_path": "../store"}, "INVALID_ARGUMENT", "dataset_path"),
    "agreed masks without rules": ({"mask_source": "MASK_SOURCE_AGREED"}, "INVALID_ARGUMENT", "rules"),
    "rule without a phrase": (
        {"rules": [TYPED[0] | {"noun_phrases": []}]},
        "INVALID_ARGUMENT",
        "rules[0].noun_phrases",
    ),
    "unknown loss": ({"options": {"loss": 9}}, "INVALID_ARGUMENT", "options.loss"),
    "unknown selection": ({"options": {"selection": 9}}, "INVALID_ARGUMENT", "options.selection"),
    "too many pictures": ({"options": {"images_per_class": 10_001}}, "INVALID_ARGUMENT", "options.images_per_class"),
    "criterion above 1": (
        {"options": {"criteria": {"min_class_accuracy": 80}}},
        "INVALID_ARGUMENT",
        "options.criteria.min_class_accuracy",
    ),
    "unknown priority": ({"priority": 9}, "INVALID_ARGUMENT", "priority"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_submission_is_refused_with_the_field_and_files_nothing(served, name):
    changes, code, field = WRONG[name]
    before = len(served.client.jobs())
    with pytest.raises(PlumblineError) as caught:
        served.client.submit(request(**changes))
    assert caught.value.code == code
    assert field in (caught.value.field or str(caught.value))
    assert len(served.client.jobs()) == before


def test_same_key_files_one_job_and_other_content_is_refused(served):
    first = served.client.submit(request(idempotency_key="once"))
    assert served.client.submit(request(idempotency_key="once")).job_id == first.job_id
    with pytest.raises(PlumblineError) as caught:
        served.client.submit(request(idempotency_key="once", options={"seed": 9}))
    assert caught.value.code == "ALREADY_EXISTS"
    served.client.cancel(first.job_id, "test")


def test_cancelled_job_ends_and_can_not_be_cancelled_again(served):
    job = served.client.submit(request(idempotency_key="cancelled", options={"images_per_class": 30}))
    served.client.cancel(job.job_id, "changed my mind")
    last = list(served.client.watch(job.job_id, 30))[-1]
    assert (last.state, last.reason) == (pb.JOB_STATE_CANCELLED, "changed my mind")
    with pytest.raises(PlumblineError) as caught:
        served.client.cancel(job.job_id, "again")
    assert caught.value.code == "FAILED_PRECONDITION"


def test_a_cancelled_job_is_retried_as_a_new_one_with_the_same_request(served):
    asked = {"options": {"images_per_class": 30, "criteria": {"min_class_accuracy": 0.5}}, "priority": "PRIORITY_BATCH"}
    job = served.client.submit(request(idempotency_key="to-retry", submitter="ward 3", **asked))
    with pytest.raises(PlumblineError) as caught:
        served.client.retry(job.job_id, "retried")
    assert caught.value.code == "FAILED_PRECONDITION"
    served.client.cancel(job.job_id, "changed my mind")
    again = served.client.retry(job.job_id, "retried")
    assert again.job_id != job.job_id
    assert (again.retry_of, again.submitter, again.priority) == (job.job_id, "ward 3", pb.PRIORITY_BATCH)
    assert (again.options, again.model, again.specification) == (job.options, job.model, job.specification)
    assert again.options.criteria.min_class_accuracy == 0.5
    assert served.client.retry(job.job_id, "retried").job_id == again.job_id
    assert [j.job_id for j in served.client.jobs(submitter="ward 3")] == [again.job_id, job.job_id]
    served.client.cancel(again.job_id, "test")


def test_unknown_job_is_not_found(served):
    with pytest.raises(PlumblineError) as caught:
        served.client.job("../../etc/passwd")
    assert caught.value.code == "NOT_FOUND"


@pytest.fixture
def outside(stack):
    """Somebody who has nothing but Celery and the documented JSON."""
    with celery.Celery(broker=stack.broker_url, set_as_current=False) as app:
        yield app


@pytest.fixture(scope="module")
def queued(served, stack):
    """A job that came through the queue, with criteria that any training meets, at its end."""
    criteria = {
        "max_accuracy_drop": 1,
        "max_class_accuracy_drop": 1,
        "min_swap_accuracy_gain": 0,
        "max_flip_rate_rise": 1,
    }
    content = {
        "idempotency_key": "from-the-queue",
        "model": {"name": "digits"},
        "dataset_path": "decoy",
        "specification": specification(RULE),
        "options": {"images_per_class": 1, "epochs": 1, "criteria": criteria},
        "mask_source": "MASK_SOURCE_AGREED",
        "rules": TYPED,
    }
    before = {job.job_id for job in served.client.jobs()}
    with celery.Celery(broker=stack.broker_url, set_as_current=False) as app:
        app.send_task(SUBMIT_TASK, kwargs={"request": content}, queue=JOBS_QUEUE)
    job = wait_for(lambda: next((j for j in served.client.jobs() if j.job_id not in before), None), 30)
    return list(served.client.watch(job.job_id, 240))[-1]


def test_job_submitted_through_the_queue_runs_in_the_way_and_by_the_rules_that_it_names(served, queued):
    assert queued.state == pb.JOB_STATE_PUBLISHED, queued.reason
    assert queued.rules == [vision_pb2.TypedRule(**rule) for rule in TYPED]
    judged = [image.critique for image in served.client.critiques(queued.job_id) if not image.critique.failure]
    verdicts = [verdict for critique in judged for verdict in critique.verdicts]
    assert verdicts
    assert all(verdict.judged_verdict and verdict.grounded_verdict for verdict in verdicts)
    assert replay_job(served.client, queued.job_id).broken == ()


def test_the_pages_of_explainer_and_lvlm_service_tell_what_a_job_asked_of_them(served, queued, pages):
    def look() -> MetricsPage | None:
        page = MetricsPage(pages["explainer"])
        return page if page.sum("plumbline_explainer_champion_ready", model=served.name) else None

    explainer, lvlm = wait_for(look, 30), MetricsPage(pages["lvlm"])
    assert explainer.values("plumbline_explainer_champion_version", "model")[served.name] >= 1
    assert explainer.values("plumbline_explainer_versions_ready", "model")[served.name] >= 1
    assert explainer.sum("plumbline_explainer_inference_pictures_sum", question="EXPLAIN") > 0
    assert explainer.sum("plumbline_calls_total", method="PublishModel", code="OK") >= 1
    assert lvlm.sum("plumbline_lvlm_questions_total", outcome="ANSWERED") > 0
    assert lvlm.sum("plumbline_lvlm_critiques_total", outcome="JUDGED") > 0
    assert lvlm.values("plumbline_lvlm_tokens_total", "direction").keys() == {"question", "answer"}
    assert lvlm.sum("plumbline_calls_total", method="TranslateSpecification", code="OK") >= 1


def test_one_trace_leads_from_a_jobs_submission_to_its_published_version(queued, traces):
    job = {"plumbline.job_id": queued.job_id}
    root = wait_for(lambda: traces.find(SUBMIT_TASK, **job), 20)
    explainer, lvlm = "plumbline.explainer.v1.ExplainerService", "plumbline.lvlm.v1.LvlmService"
    way = [
        ("trainer-worker", SUBMIT_TASK),
        ("explainer", f"{explainer}/ListModels"),
        ("trainer-worker", CRITIQUE_TASK),
        ("explainer", f"{explainer}/Predict"),
        ("explainer", f"{explainer}/Explain"),
        ("explainer", "triton/infer"),
        ("lvlm", f"{lvlm}/TranslateSpecification"),
        ("lvlm", "lvlm/answer"),
        ("trainer-worker", CONSUME_CRITIQUES_TASK),
        ("trainer-worker", TRAIN_TASK),
        ("trainer-worker", "training"),
        ("explainer", f"{explainer}/PublishModel"),
    ]

    def look() -> bool:
        return {step for step in way} <= {(span.service, span.name) for span in traces.of_trace(root.trace)}

    wait_for(look, 20)
    spans = traces.of_trace(root.trace)
    assert root.parent == b""
    assert {span.parent for span in spans} <= {span.id for span in spans} | {b""}
    assert sum(span.parent == b"" for span in spans) == 1
    for service, name in way:
        first = next(span for span in spans if (span.service, span.name) == (service, name))
        is_step = service == "trainer-worker" or name.endswith("TranslateSpecification")
        assert first.attributes.get("plumbline.job_id") == (queued.job_id if is_step else None)


def test_a_submission_by_call_begins_the_trace_in_which_its_steps_run(served, traces):
    job = served.client.submit(request(idempotency_key="traced"))
    about = {"plumbline.job_id": job.job_id}
    served.client.cancel(job.job_id, "test")  # its step is the shorter for it
    filed = wait_for(lambda: traces.find(f"{TRAINER}/SubmitAlignment", **about), 20)
    step = wait_for(lambda: traces.find(CRITIQUE_TASK, **about), 60)
    assert (step.trace, step.parent) == (filed.trace, filed.id)


def test_spans_hold_no_word_that_was_sent_and_no_picture_name(queued, traces):
    wait_for(lambda: traces.find(SUBMIT_TASK, **{"plumbline.job_id": queued.job_id}), 20)
    told = {str(value) for span in traces.spans for value in (span.name, *span.attributes.values())}
    assert not [text for text in told if any(word in text for word in ("square", "stroke", ".png", "decoy"))]
    assert [span for span in traces.spans if span.event_count] == []
    keys = {key for span in traces.spans for key in span.attributes}
    assert keys == {"plumbline.job_id", "rpc.grpc.status_code", "question", "pictures", "attempt"}


def test_refused_submission_from_the_queue_is_kept_with_the_reason(served, outside):
    content = {"model": {"name": "digits"}, "dataset_path": "not-there", "specification": specification(RULE)}
    outside.send_task(SUBMIT_TASK, kwargs={"request": content}, queue=JOBS_QUEUE)

    def kept() -> str | None:
        texts = [path.read_text() for path in (served.layout.store / "unclaimed").glob("*.json")]
        return next((text for text in texts if "not-there" in text), None)

    assert "dataset_path" in json.loads(wait_for(kept, 30))["reason"]


def test_bad_critique_is_set_aside_and_the_good_one_beside_it_is_taken(served, outside):
    job = served.client.submit(request(idempotency_key="set-aside", options={"images_per_class": 1}))
    folder = served.layout.store / "jobs" / job.job_id
    expected = json.loads(wait_for(lambda: _read(folder / "expected.json"), 60))
    digest, entry = next(iter(expected.items()))
    good = {
        "image_id": entry["file_name"],
        "image_digest": digest,
        "model_digest": job.model.digest,
        "true_label": entry["label"],
        "provenance": {"engine": "person", "model_id": "tester"},
    }
    bad = good | {"image_digest": "sha256:" + "0" * 64}
    batch = {"schema_version": 1, "job_id": job.job_id, "critiques": [bad, good]}
    outside.send_task(CONSUME_CRITIQUES_TASK, kwargs={"batch": batch}, queue=CRITIQUES_QUEUE)
    aside = wait_for(lambda: next((folder / "set_aside").glob("*.json"), None), 60)
    assert "did not ask" in json.loads(aside.read_text())["reason"]
    assert wait_for(lambda: _read(folder / "critiques" / f"{digest.removeprefix('sha256:')}.json"), 60)
    served.client.cancel(job.job_id, "test") if _can_be_cancelled(served, job.job_id) else None


def test_specification_travels_with_the_job(served):
    job = served.client.submit(request(idempotency_key="specification"))
    assert job.specification.rules[0] == vision_pb2.ClassRule(**RULE)
    served.client.cancel(job.job_id, "test")


def _read(path):
    return path.read_text() if path.is_file() else None


def _can_be_cancelled(served, job_id: str) -> bool:
    return served.client.job(job_id).state < pb.JOB_STATE_EVALUATING

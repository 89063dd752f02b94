"""The review stop over the real record: what waits, what a decision changes, and that a finished review sends the job once."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from services.common.runtime.errors import InvalidInput, NotFound, Unavailable, WrongState
from services.trainer.adapters.open_tracker import NoTracker
from services.trainer.domain.job import Job, JobState
from services.trainer.domain.review import Decision
from services.trainer.handlers import watching
from services.trainer.handlers.consuming import Outcome
from services.trainer.handlers.recovering import Recovering
from services.trainer.handlers.reviewing import AskedDecision, ReviewCounts
from services.trainer.handlers.training import Training
from services.trainer.handlers.watching import Watching
from tests.unit.trainer.fakes import LastProgress, LocalLease
from tests.unit.trainer.made_up import SIZE, make_critique
from tests.unit.trainer.review_stage import DIGESTS, PICTURES, WITHOUT, ReviewStage, make_edit


@pytest.fixture
def stage(tmp_path: Path) -> ReviewStage:
    """Its critiques are there: it awaits the review."""
    made = ReviewStage(tmp_path)
    made.consume(*PICTURES)
    return made


def test_a_job_with_a_review_waits_when_its_critiques_are_complete_and_not_before(tmp_path: Path):
    stage = ReviewStage(tmp_path)
    stage.consume(*PICTURES[1:])
    assert stage.state == JobState.CRITIQUING
    stage.consume(PICTURES[0])
    assert (stage.state, stage.queue.sent) == (JobState.AWAITING_REVIEW, [])


def test_a_job_without_a_review_does_not_wait(tmp_path: Path):
    stage = ReviewStage(tmp_path, review=False)
    stage.consume(*PICTURES)
    assert (stage.state, stage.queue.sent) == (JobState.CRITIQUING, [("train", stage.job_id)])


def test_critiques_that_come_in_at_once_bring_the_job_to_its_review(tmp_path: Path):
    stage = ReviewStage(tmp_path)
    threads = [threading.Thread(target=stage.consume, args=(digest,)) for digest in PICTURES * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (stage.state, stage.queue.sent) == (JobState.AWAITING_REVIEW, [])


def test_a_job_that_waits_for_its_review_may_not_train_whoever_asks(stage: ReviewStage):
    job = stage.record.load(stage.job_id)
    assert not stage.completing.may_train(job)
    stage.completing.send_when_complete(stage.job_id)
    assert stage.queue.sent == []


def test_the_recovery_leaves_it_alone_until_the_review_is_finished_and_its_message_lost(stage: ReviewStage):
    recovering = Recovering(stage.record, stage.queue, stage.completing, LocalLease(), timedelta(0))
    recovering.recover()
    assert stage.queue.sent == []
    stage.queue.failure = Unavailable("the broker can't be reached")
    with pytest.raises(Unavailable):
        stage.reviewing.finish(stage.job_id, "Dr. Ada", accept_rest=True)
    stage.queue.failure = None
    recovering.recover()
    assert stage.queue.sent == [("train", stage.job_id)]


def test_a_complete_job_whose_worker_died_before_its_review_comes_to_the_critiquing_step_not_to_training(
    tmp_path: Path,
):
    stage = ReviewStage(tmp_path)
    for digest in DIGESTS:
        stage.record.add_critique(stage.job_id, make_critique(digest))
    Recovering(stage.record, stage.queue, stage.completing, LocalLease(), timedelta(0)).recover()
    assert stage.queue.sent == [("critique", stage.job_id)]


def test_a_training_message_trains_a_job_after_its_review_and_not_before(stage: ReviewStage, tmp_path: Path):
    trained_with: list[list[str]] = []

    def run(job: Job, *_: object) -> dict[str, Any]:
        trained_with.append([critique.image_digest for critique in stage.effective()])
        return {"decision": {"is_accepted": False, "reason": "flip rate rises"}}

    training = Training(stage.record, None, stage.completing, LastProgress(), run, LocalLease(), NoTracker())
    waiting = ReviewStage(tmp_path / "other")
    for digest in DIGESTS:
        waiting.record.add_critique(waiting.job_id, make_critique(digest))
    Training(waiting.record, None, waiting.completing, LastProgress(), run, LocalLease(), NoTracker()).train(
        waiting.job_id
    )
    training.train(stage.job_id)
    assert (waiting.state, stage.state, trained_with) == (JobState.CRITIQUING, JobState.AWAITING_REVIEW, [])

    stage.decide(Decision.REJECT, PICTURES[2])
    training.train(stage.job_id)
    assert trained_with == []
    stage.reviewing.finish(stage.job_id, "Dr. Ada", accept_rest=True)
    training.train(stage.job_id)
    assert (stage.state, trained_with) == (JobState.REJECTED, [PICTURES[:2]])


def test_a_rejected_critique_never_counts_and_stays_on_record(stage: ReviewStage):
    counts = stage.decide(Decision.REJECT, PICTURES[0])
    assert counts == ReviewCounts(decided=1, undecided=2)
    assert [critique.image_digest for critique in stage.effective()] == PICTURES[1:]
    assert stage.record.critiqued(stage.job_id) == set(PICTURES)


def test_an_edited_critique_counts_as_edited_by_its_reviewer_and_the_original_stays_on_record(stage: ReviewStage):
    original = stage.record.critique(stage.job_id, PICTURES[1])
    stage.edit(PICTURES[1], verdicts=make_edit(PICTURES[1])["verdicts"][1:])
    first, edited, last = stage.effective()
    assert (edited.reasons, len(edited.verdicts)) == ("mine", 1)
    assert (edited.provenance.engine, edited.provenance.model_id) == ("person", "Dr. Ada")
    assert {first.reasons, last.reasons} == {original.reasons}
    assert stage.record.critique(stage.job_id, PICTURES[1]) == original


def test_a_person_may_change_their_mind_and_all_of_it_is_kept(stage: ReviewStage):
    for decision, count in ((Decision.REJECT, 2), (Decision.ACCEPT, 3), (Decision.REJECT, 2)):
        stage.decide(decision, PICTURES[0], reviewer=f"{decision}er")
        assert len(stage.effective()) == count
    kept = stage.record.reviews(stage.job_id)
    assert [(review.reviewer, review.decisions[0].decision) for review in kept] == [
        ("REJECTer", "REJECT"),
        ("ACCEPTer", "ACCEPT"),
        ("REJECTer", "REJECT"),
    ]


def test_of_people_who_decide_at_the_same_moment_everything_is_kept(stage: ReviewStage):
    threads = [threading.Thread(target=stage.decide, args=(Decision.ACCEPT, digest)) for digest in PICTURES * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = sorted(review.decisions[0].image_digest for review in stage.record.reviews(stage.job_id))
    assert kept == sorted(PICTURES * 5)


def test_a_review_with_pictures_left_is_finished_only_if_the_rest_is_accepted(stage: ReviewStage):
    stage.decide(Decision.REJECT, PICTURES[0])
    with pytest.raises(WrongState, match="2 of 3 critiqued pictures have no decision"):
        stage.reviewing.finish(stage.job_id, "Dr. Ada")
    assert stage.queue.sent == []
    stage.reviewing.finish(stage.job_id, "Dr. Ada", accept_rest=True)
    assert stage.queue.sent == [("train", stage.job_id)]
    assert [critique.image_digest for critique in stage.effective()] == PICTURES[1:]


def test_a_review_with_a_decision_on_every_picture_is_finished(stage: ReviewStage):
    stage.decide(Decision.ACCEPT, *PICTURES)
    stage.reviewing.finish(stage.job_id, "Dr. Ada")
    assert stage.queue.sent == [("train", stage.job_id)]


def test_a_review_finished_many_times_at_once_sends_once(stage: ReviewStage):
    threads = [threading.Thread(target=stage.reviewing.finish, args=(stage.job_id, "Dr. Ada", True)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stage.reviewing.finish(stage.job_id, "Dr. Ada")
    stage.record.advance(stage.record.load(stage.job_id), JobState.TRAINING)
    stage.reviewing.finish(stage.job_id, "Dr. Ada")
    assert stage.queue.sent == [("train", stage.job_id)]
    assert len(stage.record.reviews(stage.job_id)) == 1


def test_what_comes_after_the_review_is_refused_and_never_counts(stage: ReviewStage):
    stage.reviewing.finish(stage.job_id, "Dr. Ada", accept_rest=True)
    with pytest.raises(WrongState, match=r"Dr\. Ada has finished the review"):
        stage.decide(Decision.REJECT, PICTURES[0])
    assert stage.consume(WITHOUT[0]) == [(Outcome.SET_ASIDE, "the review of the job is finished")]
    stage.record.add_critique(stage.job_id, make_critique(WITHOUT[0].removeprefix("sha256:")))
    assert [critique.image_digest for critique in stage.effective()] == PICTURES


@pytest.mark.parametrize("state", [JobState.TRAINING, JobState.CANCELLED])
def test_a_review_that_comes_too_late_is_refused(stage: ReviewStage, state: JobState):
    stage.record.advance(stage.record.load(stage.job_id), state)
    with pytest.raises(WrongState, match=f"the job is {state}"):
        stage.decide(Decision.ACCEPT, PICTURES[0])
    with pytest.raises(WrongState, match=f"the job is {state}"):
        stage.reviewing.finish(stage.job_id, "Dr. Ada")
    assert stage.record.reviews(stage.job_id) == []


def test_a_review_of_a_job_without_one_is_refused(tmp_path: Path):
    stage = ReviewStage(tmp_path, review=False)
    stage.consume(*PICTURES)
    with pytest.raises(WrongState, match="filed without a review"):
        stage.reviewing.finish(stage.job_id, "Dr. Ada", accept_rest=True)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"image_digest": f"sha256:{'e' * 64}"}, "decisions[1].image_digest"),
        ({"image_digest": WITHOUT[0]}, "decisions[1].image_digest"),
        ({"image_digest": PICTURES[0]}, "decisions[1].image_digest"),
        ({"reason": "x" * 2001}, "decisions[1].reason"),
        ({"edit": make_edit(PICTURES[1])}, "decisions[1].edit"),
        ({"decision": Decision.EDIT}, "decisions[1].edit"),
        ({"decision": Decision.EDIT, "edit": make_edit(PICTURES[2])}, "decisions[1].edit.image_digest"),
        ({"decision": Decision.EDIT, "edit": make_edit(PICTURES[1], true_label="1")}, "decisions[1].edit.true_label"),
        ({"decision": Decision.EDIT, "edit": make_edit(PICTURES[1], image_id="")}, "decisions[1].edit.image_id"),
        (
            {
                "decision": Decision.EDIT,
                "edit": make_edit(PICTURES[1], verdicts=make_edit(PICTURES[1])["verdicts"][:1] * 2),
            },
            "decisions[1].edit.verdicts[1].segment_index",
        ),
        ({"decision": Decision.EDIT, "edit": make_edit(PICTURES[1], reasons="x" * 70_000)}, "decisions[1].edit"),
    ],
)
def test_a_wrong_decision_is_named_and_none_of_the_call_is_kept(
    stage: ReviewStage, changes: dict[str, Any], field: str
):
    good = AskedDecision(PICTURES[0], Decision.ACCEPT)
    wrong = AskedDecision(**{"image_digest": PICTURES[1], "decision": Decision.ACCEPT} | changes)
    with pytest.raises(InvalidInput) as caught:
        stage.reviewing.review(stage.job_id, "Dr. Ada", [good, wrong])
    assert caught.value.field == field
    assert stage.record.reviews(stage.job_id) == []


@pytest.mark.parametrize("reviewer", ["", "  ", "x" * 201])
def test_a_review_needs_a_name(stage: ReviewStage, reviewer: str):
    for call in (
        lambda: stage.decide(Decision.ACCEPT, PICTURES[0], reviewer=reviewer),
        lambda: stage.reviewing.finish(stage.job_id, reviewer, accept_rest=True),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.field == "reviewer"


@pytest.mark.parametrize("count", [0, 1001])
def test_a_call_holds_up_to_a_thousand_decisions(stage: ReviewStage, count: int):
    with pytest.raises(InvalidInput) as caught:
        stage.decide(Decision.ACCEPT, *PICTURES[:1] * count)
    assert caught.value.field == "decisions"


def test_a_review_of_no_job_is_not_found(stage: ReviewStage):
    for call in (
        lambda: stage.reviewing.review("nobody", "Dr. Ada", []),
        lambda: stage.reviewing.finish("nobody", "x"),
    ):
        with pytest.raises(NotFound):
            call()


def test_another_critique_while_the_job_waits_is_set_aside_with_the_way_to_change_it(stage: ReviewStage):
    ((outcome, reason),) = stage.consume(PICTURES[0], reasons="I see it otherwise")
    assert (outcome, reason.endswith("plumbline review --edit")) == (Outcome.SET_ASIDE, True)


def test_a_picture_that_nobody_was_asked_about_may_be_critiqued_while_the_job_waits_and_needs_a_decision(
    stage: ReviewStage,
):
    stage.decide(Decision.ACCEPT, *PICTURES)
    assert stage.consume(WITHOUT[0]) == [(Outcome.TAKEN, "")]
    with pytest.raises(WrongState, match="1 of 4 critiqued pictures"):
        stage.reviewing.finish(stage.job_id, "Dr. Ada")


def test_who_looks_sees_the_critique_as_it_came_beside_the_review_that_counts(stage: ReviewStage):
    for digest in DIGESTS:
        stage.record.add_picture(stage.job_id, f"sha256:{digest}", b"png")
    stage.decide(Decision.REJECT, PICTURES[0])
    stage.edit(PICTURES[0])
    stage.decide(Decision.ACCEPT, PICTURES[1], reviewer="Dr. Bob")
    page, token = Watching(stage.record, LastProgress()).critiques(stage.job_id, 0, "")
    assert token == ""
    assert [picture.critique.reasons for picture in page] == ["flat block"] * 3
    edited, accepted, undecided = (picture.review for picture in page)
    assert (edited.decision.decision, edited.decision.edit.reasons) == (Decision.EDIT, "mine")
    assert (accepted.decision.decision, accepted.reviewer) == (Decision.ACCEPT, "Dr. Bob")
    assert undecided is None


def test_a_page_with_long_edits_ends_before_a_message_is_too_long(stage: ReviewStage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "MAX_PAGE_BYTES", 70_000)
    for digest in PICTURES:
        stage.record.add_picture(stage.job_id, digest, b"png")
        stage.edit(digest, reasons="x" * 50_000)
    pages, token = [], ""
    for _ in PICTURES:
        page, token = Watching(stage.record, LastProgress()).critiques(stage.job_id, 0, token)
        pages.append([picture.critique.image_digest for picture in page])
    assert (pages, token) == ([[digest] for digest in PICTURES], "")


def test_critiques_alone_come_without_their_pictures_being_read(stage: ReviewStage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watching, "MAX_PAGE_BYTES", 1_000_000)
    for digest in PICTURES:
        stage.record.add_picture(stage.job_id, digest, b"x" * 900_000)
    look = Watching(stage.record, LastProgress())
    page, token = look.critiques(stage.job_id, 0, "", with_pictures=False)
    assert ([picture.critique.image_digest for picture in page], token) == (PICTURES, "")
    assert [picture.data for picture in page] == [b""] * len(PICTURES)
    assert len(look.critiques(stage.job_id, 0, "")[0]) == 1


def test_chosen_pictures_are_listed_by_page_with_and_without_a_critique(stage: ReviewStage):
    look = Watching(stage.record, LastProgress())
    first, token = look.pictures(stage.job_id, 3, "")
    rest, end = look.pictures(stage.job_id, 3, token)
    assert [(picture.digest, picture.is_critiqued) for picture in first + rest] == [
        *((digest, True) for digest in PICTURES),
        (WITHOUT[0], False),
    ]
    assert (end, first[0].file_name, first[0].label) == ("", "a.png", "0")
    assert (first[0].height_px, first[0].width_px) == SIZE


def test_the_record_of_a_review_is_plain_json(stage: ReviewStage):
    stage.decide(Decision.REJECT, PICTURES[0])
    kept = json.loads((stage.root / "jobs" / stage.job_id / "reviews" / "000000.json").read_text())
    assert (kept["reviewer"], kept["decisions"][0]["decision"]) == ("Dr. Ada", "REJECT")

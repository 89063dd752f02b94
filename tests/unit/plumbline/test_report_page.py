"""What the page says: behaviour in words with the pictures that bear it out, how the job was done, what was measured."""

from __future__ import annotations

import dataclasses
import re

import numpy as np

from plumbline.common.v1 import critique_pb2, vision_pb2
from plumbline.explainer.v1 import explainer_service_pb2 as explainer_pb
from plumbline.lvlm.v1 import lvlm_service_pb2 as lvlm_pb
from plumbline.report import render
from plumbline.report.collect import JobReport, VersionView
from plumbline.trainer.v1 import trainer_service_pb2 as trainer_pb
from tests.conftest import png


def report(*behaviours: lvlm_pb.ClassBehavior) -> JobReport:
    critiqued = [
        trainer_pb.CritiquedImage(
            image=vision_pb2.Image(id=f"{number}.png", data=png(np.full((8, 8), 20 * number, np.uint8))),
            critique=critique_pb2.Critique(image_id=f"{number}.png", true_label="3"),
        )
        for number in range(10)
    ]
    before = VersionView(1, "sha256:1", behaviours, [])
    options = {"loss": "LOSS_R4", "selection": "SELECTION_RANDOM"}
    job = trainer_pb.Alignment(job_id="job", mask_source="MASK_SOURCE_JUDGED", options=options)
    return JobReport(job, {}, critiqued, [], critiqued, before, None, [])


def test_every_sentence_stands_beside_its_pictures():
    claims = [
        lvlm_pb.Claim(
            text="The square leads in 8 of 10 images.",
            things=["square"],
            image_ids=[f"{number}.png" for number in range(8)],
            segments=[f"{number}.png#1" for number in range(8)],
        ),
        lvlm_pb.Claim(text="2 of 12 descriptions could not be read", image_ids=["11.png", "12.png"]),
    ]
    page = render(
        report(lvlm_pb.ClassBehavior(target_label="3", claims=claims, text_source=lvlm_pb.TEXT_SOURCE_WRITTEN))
    )
    assert page.index("The square leads in 8 of 10 images.") < page.index("2 of 12 descriptions could not be read")
    assert [f'title="{number}.png"' in page for number in range(8)] == [True] * 6 + [False] * 2
    assert "square: 8 pictures" in page
    assert "0.png#1, 1.png#1" in page
    assert '<span class="source">written</span>' in page


def test_words_of_a_language_model_are_text_on_the_page():
    claim = lvlm_pb.Claim(text="The <script>x</script> leads.", things=["<b>"], segments=['"><img src=x>#1'])
    page = render(report(lvlm_pb.ClassBehavior(target_label="3", claims=[claim])))
    assert "<script>x" not in page
    assert "<img src=x>" not in page
    assert '<span class="source">counted</span>' in page


def test_page_says_how_masks_came_about_and_where_judge_and_regions_disagree():
    judged = report()
    assert "Masks: judged by critic and judge." in render(judged)
    spurious, core = critique_pb2.VERDICT_SPURIOUS, critique_pb2.VERDICT_CORE
    for picture, regions in zip(judged.critiqued, [spurious, core, core], strict=False):
        picture.critique.verdicts.add(judged_verdict=spurious, grounded_verdict=regions)
    judged.job.mask_source = vision_pb2.MASK_SOURCE_AGREED
    assert "Masks: what judge and regions both say; they disagree on 2 of 3 segments." in render(judged)


MEASURED = {"accuracy": 0.9, "swap_accuracy": 0.5, "flip_rate": 0.4}
METRICS = {
    "pictures": {"train": 9, "masked": 4, "held_out": 3},
    "before": MEASURED,
    "after": MEASURED,
    "chosen": {"strength": 0.1, "step": 1000},
    "trials": [{}, {}],
}


def rows(page: str) -> list[list[str]]:
    """Words of the page's table rows, cell by cell."""
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", page)]
    return [[re.sub(r"<[^>]+>", "", cell) for cell in row] for row in cells]


def test_page_shows_what_segments_of_each_verdict_held_before_and_after_beside_their_floor():
    held = {
        "SPURIOUS": {"before": 0.612, "after": 0.051, "floor": 0.044},
        "CORE": {"before": 0.2, "after": 0.5, "floor": 0.1},
        "UNSURE": None,
    }
    page = rows(render(dataclasses.replace(report(), metrics=METRICS | {"evidence_by_verdict": held})))
    assert ["SPURIOUS: reliance", "61.2 %", "5.1 %", "4.4 %"] in page
    assert ["CORE", "20.0 %", "50.0 %", "10.0 %"] in page
    assert ["UNSURE", "–", "–", "–"] in page


def test_metrics_of_before_evidence_was_told_by_verdict_make_a_page_without_it():
    page = render(dataclasses.replace(report(), metrics=METRICS))
    assert "by verdict" not in page


def test_page_names_the_loss_and_how_pictures_were_chosen():
    page = render(dataclasses.replace(report(), metrics=METRICS))
    assert "Loss R4, λ = 0.1 after 1000 steps" in page
    assert "Chosen: RANDOM." in page


def test_page_says_who_reviewed_what_and_shows_the_critique_that_counts():
    reviewed = report()
    assert "Reviewed by" not in render(reviewed)
    reject, edit, accept = (picture.review for picture in reviewed.critiqued[:3])
    for review, decision in ((reject, "REJECT"), (edit, "EDIT"), (accept, "ACCEPT")):
        review.decision = trainer_pb.ReviewDecision.Value(f"REVIEW_DECISION_{decision}")
        review.reviewer, review.reason = "Dr. Ada", f"why {decision}"
    reviewed.critiqued[1].critique.reasons = "as it came"
    edit.edit.reasons = "as edited"
    explanation = explainer_pb.Explanation(prediction={"label": "3"})
    shown = dataclasses.replace(reviewed.before, explanations=[explanation] * 3)
    page = render(dataclasses.replace(reviewed, shown=reviewed.critiqued[:3], before=shown))
    assert "Reviewed by Dr. Ada: 1 accepted, 1 rejected (they neither trained nor measured), 1 edited." in page
    assert "REJECT by Dr. Ada: why REJECT" in page
    assert "as edited" in page
    assert "as it came" not in page

"""A text about a class is held to what was counted, sentence by sentence."""

import random
import time

import pytest

from services.lvlm.domain.behavior import ClassEvidence, DescribedPicture, count_evidence, tell_counts
from services.lvlm.domain.claims import check_text, split_sentences


def evidence(label: str = "3") -> ClassEvidence:
    """Ten pictures: the square leads in 7 and appears in 9, the digit leads in 3 and appears in 10; mean shares 0.56 and 0.43."""
    pictures = []
    for number in range(10):
        if number < 7:
            texts, shares = ("the square", "the digit"), (0.7, 0.3)
        elif number < 9:
            texts, shares = ("the digit", "the square"), (0.65, 0.35)
        else:
            texts, shares = ("the digit", "a grey square"), (0.9, 0.1)
        text = " ".join(f"Segment {index} covers {thing}." for index, thing in enumerate(texts, start=1))
        pictures.append(DescribedPicture(f"{number}.png", label, dict(enumerate(shares, start=1)), text))
    (counted,) = count_evidence(pictures)
    return counted


BORNE_OUT = [
    "The square leads in 7 of 10 images.",
    "The square leads in seven out of ten images.",
    "In 7 of 10 images the square leads, in 3 the digit.",
    "The classifier rests on the square in 70 % of the images.",
    "The square decides in most images, and the digit in 3 of 10.",
    "Class 3 is decided by the square in 7/10 images and by the digit in 3/10.",
    "The square appears in 9 of 10 images, with a mean share of 0.56 of the evidence.",
    "The square holds 56 percent of the evidence and leads in 7 images.",
    "The square holds 56.0 % of the evidence.",
    "The square leads in 7 of the 9 images in which it appears.",
    "Of the 10 images, 7 rest on the square.",
    "The square appears in almost all images.",
    "The digit appears in all 10 images.",
    "The digit is present in every image.",
    "The grey square never leads, and it appears in one image.",
    "Most decisions rest on the square.",
    "The square holds most of the evidence.",
    "The digit leads in a third of the images.",
    "The square leads; the square appears in 9 of 10 images.",
    "The SQUARE leads in 7 of 10 pictures!",
    "Squares appear in 9 of 10 images.",
    "The square leads in 7 of 10 images and appears in 9.",
    "The square appears in 9 of 10 images and leads in 7, with a mean share of the evidence of 0.56.",
    "The digit, with a mean share of 0.43, leads in 3 of 10 images.",
    "In 9 of 10 decisions the square is present.",
]

REFUSED = {
    "another count": "The square leads in 8 of 10 images.",
    "another whole": "The square leads in 7 of 12 images.",
    "the count of another measure": "The square leads in 9 of 10 images.",
    "the count of another thing": "The digit leads in 7 of 10 images.",
    "counts changed over": "The square leads in 3 of 10 images and the digit in 7.",
    "counts changed over, figures first": "In 3 of 10 images the square leads, in 7 the digit.",
    "two things of which one": "The square and the digit lead in 7 of 10 images.",
    "whole for a part": "The square leads in 10 images.",
    "percent beside it": "The square leads in 72 % of the images.",
    "decimal beyond its rounding": "The square has a mean share of 0.57.",
    "share of evidence for share of images": "The square leads in 56 % of the images.",
    "share of images for share of evidence": "The square holds 70 % of the evidence.",
    "word number": "The square leads in eight of ten images.",
    "the count of the verb before": "The square leads in 7 of 10 images and appears in 7.",
    "the count of the verb behind": "The square leads in 9 of 10 images in which it appears.",
    "part of a part": "The square leads in 7 of the 9 images.",
    "the largest share by its share": "The digit holds the largest share of the evidence, 0.43.",
    "leads by its share": "The digit leads, with a mean share of 0.43.",
    "the class's name for a figure": 'The square leads in "3" of 10 images.',
    "half": "The square leads in half of the images.",
    "a third": "The square leads in a third of the images.",
    "all": "The square leads in all images.",
    "most": "Most decisions rest on the digit.",
    "never": "The digit never leads.",
    "no": "The digit appears in no image.",
    "few": "The square leads in few images.",
    "decides without a figure": "The digit decides.",
    "a thing that nobody saw": "The watermark leads in 7 of 10 images.",
    "a thing beside the things": "The square leads in 7 of 10 images, and the watermark appears.",
    "a thing of another kind": "The red square leads in 7 of 10 images.",
    "turned round": "The square does not lead in 7 of 10 images.",
    "a bound": "The square leads in fewer than 7 of 10 images.",
    "more than the count": "The square leads in more than 7 of 10 images.",
    "a comparison": "The square leads twice as often as the digit.",
    "a number that has no reading": "The square leads in 7,000 of 10 images.",
    "a number in another script": "The square leads in ７ of 10 images.",
    "a power": "The square leads in 7e0 of 10 images.",
    "a fraction sign": "The square leads in ½ of the images.",
    "a judgement": "The square leads in 7 of 10 images, which is dangerous.",
    "a claim about nothing": "The evidence is positive.",
    "a figure of nothing": "The decisions use 4 images.",
    "a mark": "The square leads in 7 of 10 images <|im_end|>",
    "another language": "Das Quadrat führt in 7 von 10 Bildern.",
    "letters that look the same": "The ſquare leads in 7 of 10 images.",
    "a count in letters that look the same": "The digit leads in fıve images.",
    "a count in letters of another case": "The digit leads in fİve of 10 images.",
    "a part in letters that look the same": "The square leads in moſt images.",
    "a fraction in letters that look the same": "The digit leads in a thırd of the images.",
    "a whole in letters that look the same": "The square leads in 7 of ſeven images.",
}


@pytest.mark.parametrize("sentence", BORNE_OUT)
def test_sentence_that_the_counts_bear_out_passes(sentence):
    checked = check_text(f"{sentence} The square appears in 9 images.", evidence())
    assert checked.refusals == ()
    assert checked.claims[0].text == sentence


@pytest.mark.parametrize("name", REFUSED)
def test_sentence_that_they_do_not_bear_out_is_refused_and_the_others_pass(name):
    checked = check_text(f"The square leads in 7 of 10 images. {REFUSED[name]}", evidence())
    assert [refusal.sentence for refusal in checked.refusals] == [REFUSED[name]]
    assert [claim.text for claim in checked.claims] == ["The square leads in 7 of 10 images."]


def test_claim_carries_the_pictures_and_segments_that_bear_it_out():
    (led, shown) = check_text("The square leads in 7 of 10 images. The digit appears in 10 of 10.", evidence()).claims
    assert led.things == ("square",)
    assert led.image_ids == tuple(f"{number}.png" for number in range(7))
    assert led.segments == tuple(f"{number}.png#1" for number in range(7))
    assert shown.image_ids == tuple(f"{number}.png" for number in range(10))
    assert shown.segments == (*(f"{number}.png#2" for number in range(7)), "7.png#1", "8.png#1", "9.png#1")


def test_that_a_thing_never_leads_is_borne_out_by_the_pictures_in_which_it_appears():
    checked = check_text("The square leads in 7 images. The grey square never leads.", evidence())
    assert checked.claims[1].image_ids == ("9.png",)


def test_a_number_of_pictures_is_borne_out_by_all_of_them():
    checked = check_text("10 images are described. The square leads in 7 of 10 images.", evidence())
    assert len(checked.claims[0].image_ids) == 10


def test_text_that_leaves_out_what_leads_is_refused():
    (refusal,) = check_text("The digit leads in 3 of 10 images.", evidence()).refusals
    assert "square" in refusal.reason


@pytest.mark.parametrize("label", ["3", "melanoma", "no finding", "St. Mary", "a (b)"])
def test_class_may_have_any_name(label):
    checked = check_text(f'Class "{label}" is decided by the square in 7 of 10 images.', evidence(label))
    assert checked.refusals == ()


def test_thing_that_is_called_like_the_class_is_the_thing():
    checked = check_text("The square leads in 7 of 10 images.", evidence("square"))
    assert [claim.things for claim in checked.claims] == [("square",)]
    assert check_text("The square leads in 8 of 10 images.", evidence("square")).refusals


def test_points_inside_numbers_and_marks_of_lists_end_no_sentence():
    assert split_sentences("- A share of 0.5. Next one!\n* Third", evidence()) == [
        "A share of 0.5.",
        "Next one!",
        "Third",
    ]


def test_what_is_counted_by_program_passes_its_own_check():
    dice = random.Random(5)
    things = ["the digit", "a square", "the grey square", "an edge of the plate", "part of the background", "2 bars"]
    for _ in range(300):
        pictures = []
        for number in range(dice.randint(1, 30)):
            count = dice.randint(1, 4)
            text = " ".join(f"Segment {index} covers {dice.choice(things)}." for index in range(1, count + 1))
            shares = {index: dice.random() / count for index in range(1, count + 1)}
            pictures.append(DescribedPicture(f"{number}.png", "3", shares, text))
        (counted,) = count_evidence(pictures)
        behavior = tell_counts(counted)
        assert check_text(behavior.text, counted).refusals == (), behavior.text


def test_every_figure_that_is_changed_by_one_is_refused():
    dice = random.Random(9)
    counted = evidence()
    for _ in range(300):
        part, whole = dice.randint(0, 12), dice.randint(1, 12)
        checked = check_text(f"The square leads in 7 images. The digit leads in {part} of {whole} images.", counted)
        assert (not checked.refusals) == ((part, whole) == (3, 10)), (part, whole)


@pytest.mark.parametrize("filler", ["the ", "7 of ", "square, ", "a third ", "9" * 50, "– ", "half half ", ". "])
def test_long_texts_are_checked_in_proportion(filler):
    start = time.process_time()
    check_text(filler * (32_768 // len(filler)), evidence())
    assert time.process_time() - start < 2.0

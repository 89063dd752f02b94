"""What a language model says, read strictly: verdicts, descriptions, counts."""

import pytest

from services.common.runtime.errors import BadModelOutput
from services.common.vision.class_specification import ClassRule
from services.common.vision.critique import Verdict
from services.lvlm.adapters.prompt_folder import load_profile
from services.lvlm.domain.behavior import ClassBehavior, DescribedPicture, count_evidence, tell_counts
from services.lvlm.domain.prompts import CRITIC, DESCRIBE, JUDGE
from services.lvlm.domain.verdicts import read_verdicts, verdict_schema


@pytest.mark.parametrize(
    "answer",
    [
        '{"1":"SPURIOUS","2":"CORE"}',
        'By the specification:\n```json\n{"1": "SPURIOUS", "2": "CORE"}\n```',
        'First I thought {"1": "CORE", "2": "CORE"}, but no: {"2": "CORE", "1": "SPURIOUS"}',
    ],
    ids=["bare", "fenced", "last one counts"],
)
def test_sound_answer_is_read(answer):
    assert read_verdicts(answer, 2) == [Verdict.SPURIOUS, Verdict.CORE]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Segment 1 is spurious.",
        '{"1":"SPURIOUS"}',
        '{"1":"SPURIOUS","2":"CORE","3":"CORE"}',
        '{"1":"SPURIOUS","2":"MAYBE"}',
        '{"1":"SPURIOUS","2":null}',
        '{"1":"SPURIOUS","1":"CORE","2":"CORE"}',
        '{"1":"SPURIOUS","2":"FAILED"}',
        '{"1":"SPURIOUS","2":"CORE"',
    ],
    ids=["empty", "prose", "one missing", "one too many", "no verdict", "null", "twice", "not its to say", "cut off"],
)
def test_unsound_answer_is_refused_and_never_an_empty_mask(answer):
    with pytest.raises(BadModelOutput):
        read_verdicts(answer, 2)


def test_schema_names_every_segment_and_no_other():
    schema = verdict_schema(3)
    assert schema["required"] == ["1", "2", "3"]
    assert schema["additionalProperties"] is False


def described(name: str, text: str, label: str = "3", shares=(0.7, 0.3)) -> DescribedPicture:
    return DescribedPicture(name, label, dict(enumerate(shares, start=1)), text)


def summarise(pictures: list[DescribedPicture]) -> list[ClassBehavior]:
    return [tell_counts(evidence) for evidence in count_evidence(pictures)]


def test_class_is_told_with_counts_shares_and_pictures():
    pictures = [
        described("a", "I see a digit and a square. Segment 1 covers the square. Segment 2 covers the digit."),
        described("b", "Segment 1 covers a square. Segment 2 covers the digit and the background."),
        described("c", "Segment 1 covers the digit. Segment 2 covers the square."),
    ]
    (behavior,) = summarise(pictures)
    square = next(item for item in behavior.evidence.items if item.thing == "square")
    assert square.image_ids == ("a", "b")
    assert square.shown_in == ("a", "b", "c")
    assert square.segments == ("a#1", "b#1", "c#2")
    assert square.mean_share == pytest.approx((0.7 + 0.7 + 0.3) / 3)
    assert behavior.text.startswith("class 3 is decided by the square in 2 of 3 images (mean share 0.57)")
    (claim,) = behavior.claims
    assert claim.text == behavior.text
    assert (claim.image_ids, claim.segments) == (("a", "b", "c"), ("a#1", "b#1", "c#1"))


def test_two_segments_on_one_thing_count_together():
    (behavior,) = summarise([described("a", "Segment 1 covers the digit. Segment 2 covers the digit.")])
    assert behavior.evidence.items[0].mean_share == pytest.approx(1.0)


def test_unreadable_description_is_counted_and_nothing_is_made_up():
    (behavior,) = summarise([described("a", "A lovely picture."), described("b", "Segment 1 covers the bar.")])
    assert behavior.evidence.image_count == 1
    assert "1 of 2 descriptions could not be read" in behavior.text


def test_segment_that_does_not_exist_is_not_counted():
    (behavior,) = summarise([described("a", "Segment 9 covers the moon.")])
    assert behavior.evidence.items == ()


@pytest.mark.parametrize("name", ["nano", "general"])
def test_profile_renders_every_prompt_without_a_placeholder_left(name):
    profile = load_profile(name)
    values = profile.rule_values("Read the digit.", ClassRule("3", "the strokes", ""))
    for kind in (DESCRIBE, CRITIC, JUDGE):
        text = profile.render_text(kind, segment_count=4, critic_text="Segment 1 covers the digit.", **values)
        assert "$" not in text
    assert profile.unset in profile.render_text(JUDGE, segment_count=4, critic_text="text", **values)


def test_placeholder_in_a_specification_stays_text():
    profile = load_profile("nano")
    rule = ClassRule("3", "pay $segment_count dollars\nand a second line", "")
    assert "pay $segment_count dollars and a second line" in profile.render_text(
        CRITIC, segment_count=4, **profile.rule_values("", rule)
    )


def test_digest_follows_the_prompt_files(tmp_path):
    import shutil

    from services.lvlm.adapters.prompt_folder import EMBEDDED

    shutil.copytree(EMBEDDED / "nano", tmp_path / "mine")
    same = load_profile(str(tmp_path / "mine")).digest
    assert same == load_profile("nano").digest
    (tmp_path / "mine" / "judge.txt").write_text("other $segment_count")
    assert load_profile(str(tmp_path / "mine")).digest != same

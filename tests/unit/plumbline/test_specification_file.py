"""The file an expert writes: read when sound, refused with the key when not."""

import numpy as np
import pytest

from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError
from plumbline.masks import decode_rle
from plumbline.specification import (
    SentencesFile,
    SpecificationFile,
    dump_specification,
    load_sentences,
    load_specification,
)
from services.common.vision.masks import encode_mask


def write(tmp_path, text: str):
    path = tmp_path / "specification.yaml"
    path.write_text(text)
    return path


def test_sentences_arrive_class_by_class(tmp_path):
    text = 'task: Read.\nclasses:\n  "3": {should_matter: the bows}\n  all: {should_not_matter: the square}\n'
    specification = load_specification(write(tmp_path, text)).specification
    assert [(r.class_name, r.should_matter, r.should_not_matter) for r in specification.rules] == [
        ("3", "the bows", ""),
        ("all", "", "the square"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "not YAML"),
        ("[]", "the file"),
        ("classes: {all: {should_matter: x}}", "task"),
        ("task: Read.", "classes"),
        ("task: Read.\nclasses: {}", "classes"),
        ("task: Read.\nclasses: {3: {shuold_matter: x}}", "shuold_matter"),
        ("task: Read.\nclasses: {3: {should_matter: [x]}}", "classes.3.should_matter"),
        ("task: Read.\nclasses: {3: the bows}", "classes.3"),
        ("task: Read.\nclases: {}", "clases"),
        ("task: Read.\nclasses:\n  a: {should_matter: x}\n  a: {should_matter: y}", "'a' stands twice"),
    ],
)
def test_fault_is_named(tmp_path, text, told):
    with pytest.raises(PlumblineError, match=told.replace(".", r"\.")):
        load_specification(write(tmp_path, text))


def test_words_that_yaml_would_take_for_numbers_or_truth_stay_words(tmp_path):
    text = "task: Read.\nclasses:\n  no: {should_matter: yes}\n  01: {should_matter: 1.0}\n"
    specification = load_specification(write(tmp_path, text)).specification
    assert [(rule.class_name, rule.should_matter) for rule in specification.rules] == [("no", "yes"), ("01", "1.0")]


CLASSES = 'task: Read.\nclasses:\n  "3": {should_matter: the bows, should_not_matter: "The grey\n    square"}\n'
RULE = {"class": '"3"', "concept": "square", "polarity": "must_not", "phrases": "[the grey square]"}


def with_rule(**changes) -> str:
    """A file with one rule, its keys replaced; None leaves a key out."""
    keys = {name: value for name, value in (RULE | changes).items() if value is not None}
    return CLASSES + f"rules: [{{{', '.join(f'{name}: {value}' for name, value in keys.items())}}}]\n"


def test_rules_travel_with_the_specification(tmp_path):
    file = load_specification(write(tmp_path, with_rule()))
    assert file.rules == (
        vision_pb2.TypedRule(
            class_name="3",
            concept="square",
            polarity=vision_pb2.POLARITY_MUST_NOT,
            noun_phrases=["the grey square"],
        ),
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CLASSES + "rules: {}", "rules: expected a list"),
        (CLASSES + "rules: [square]", r"rules\[0\]"),
        (with_rule(weight="3"), r"rules\[0\]: unknown key weight"),
        (with_rule(**{"class": "4"}), r"rules\[0\]\.class: '4' is none of the classes above: 3"),
        (with_rule(concept="''"), r"rules\[0\]\.concept"),
        (with_rule(concept=None), r"rules\[0\]\.concept"),
        (with_rule(polarity="never"), r"rules\[0\]\.polarity: expected must or must_not, got 'never'"),
        (with_rule(polarity="[must]"), r"rules\[0\]\.polarity"),
        (with_rule(phrases="the grey square"), r"rules\[0\]\.phrases"),
        (with_rule(phrases="[]"), r"rules\[0\]\.phrases"),
        (with_rule(phrases="[[square]]"), r"rules\[0\]\.phrases\[0\]"),
        (with_rule(phrases="[the circle]"), r"'the circle' does not stand in classes\.3\.should_not_matter"),
        (with_rule(polarity="must"), r"'the grey square' does not stand in classes\.3\.should_matter"),
    ],
)
def test_fault_of_a_rule_is_named(tmp_path, text, told):
    with pytest.raises(PlumblineError, match=told):
        load_specification(write(tmp_path, text))


@pytest.mark.parametrize("phrase", ["the bows", "no", "1.0", "a: b # c", "- x", "größe 語", "\"quoted'", "x" * 300])
def test_written_specification_is_read_as_it_was(tmp_path, phrase):
    rule = vision_pb2.TypedRule(
        class_name="01", concept="yes", polarity=vision_pb2.POLARITY_MUST, noun_phrases=[phrase, phrase]
    )
    specification = vision_pb2.ClassSpecification(
        task="no", rules=[vision_pb2.ClassRule(class_name="01", should_matter=f"{phrase}, {phrase}")]
    )
    file = load_specification(write(tmp_path, dump_specification(specification, [rule])))
    assert file == SpecificationFile(specification, (rule,))


SENTENCES = 'task: Read.\nclasses: ["1", "3"]\nsentences:\n  "3": The bows, not the square.\n'


def test_sentences_arrive_with_task_and_classes(tmp_path):
    told = SentencesFile("Read.", ("1", "3"), {"3": "The bows, not the square."})
    assert load_sentences(write(tmp_path, SENTENCES)) == told


@pytest.mark.parametrize(
    ("changed", "into", "told"),
    [
        ("task: Read.", "", "task"),
        ('["1", "3"]', "[]", "classes"),
        ('["1", "3"]', "[[1]]", r"classes\[0\]"),
        ("sentences:", "sentence:", "unknown key sentence"),
        ("The bows, not the square.", "[x]", r"sentences\.3"),
        ("The bows, not the square.", "' '", r"sentences\.3"),
    ],
)
def test_fault_of_a_sentences_file_is_named(tmp_path, changed, into, told):
    with pytest.raises(PlumblineError, match=told):
        load_sentences(write(tmp_path, SENTENCES.replace(changed, into)))


@pytest.mark.parametrize(("name", "told"), [("nothing.yaml", "No such file"), (".", "Is a directory")])
def test_missing_file_is_told(tmp_path, name, told):
    with pytest.raises(PlumblineError, match=told):
        load_specification(tmp_path / name)


@pytest.mark.parametrize("seed", range(20))
def test_report_reads_masks_as_coco_writes_them(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(tuple(generator.integers(1, 40, 2))) < generator.random()
    assert np.array_equal(decode_rle(encode_mask(mask), *mask.shape), mask)

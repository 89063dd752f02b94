"""The file an expert writes: read when sound, refused with the key when not."""

import numpy as np
import pytest

from plumbline.errors import PlumblineError
from plumbline.report.pictures import decode_rle
from plumbline.specification import load_specification
from services.common.vision.masks import encode_mask


def write(tmp_path, text: str):
    path = tmp_path / "specification.yaml"
    path.write_text(text)
    return path


def test_sentences_arrive_class_by_class(tmp_path):
    text = 'task: Read.\nclasses:\n  "3": {should_matter: the bows}\n  all: {should_not_matter: the square}\n'
    specification = load_specification(write(tmp_path, text))
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
    specification = load_specification(write(tmp_path, text))
    assert [(rule.class_name, rule.should_matter) for rule in specification.rules] == [("no", "yes"), ("01", "1.0")]


@pytest.mark.parametrize(("name", "told"), [("nothing.yaml", "No such file"), (".", "Is a directory")])
def test_missing_file_is_told(tmp_path, name, told):
    with pytest.raises(PlumblineError, match=told):
        load_specification(tmp_path / name)


@pytest.mark.parametrize("seed", range(20))
def test_report_reads_masks_as_coco_writes_them(seed):
    generator = np.random.default_rng(seed)
    mask = generator.random(tuple(generator.integers(1, 40, 2))) < generator.random()
    assert np.array_equal(decode_rle(encode_mask(mask), *mask.shape), mask)

"""The class specification as a file, and the plain sentences that one is compiled from.

task: Read the handwritten digit.
classes:
  "3": {should_matter: the strokes of the digit, should_not_matter: the grey square in the corner}
  all: {should_matter: the strokes of the digit}
rules:  # what a person confirmed of a compiled specification; grounded and agreed masks need them
- {class: "3", concept: square, polarity: must_not, phrases: [the grey square in the corner]}

Plain sentences, both polarities mixed:

task: Read the handwritten digit.
classes: ["0", "1", "2", "3"]
sentences:
  "3": The strokes of the digit, not the grey square in the corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError

_SIDES = {"must": vision_pb2.POLARITY_MUST, "must_not": vision_pb2.POLARITY_MUST_NOT}
_SENTENCE_KEYS = {"must": "should_matter", "must_not": "should_not_matter"}


@dataclass(frozen=True)
class SentencesFile:
    """What an expert says in plain sentences, per class or of "all"."""

    task: str
    class_names: tuple[str, ...]
    sentences: dict[str, str]


@dataclass(frozen=True)
class SpecificationFile:
    """A specification and the rules that a person confirmed with it, if any."""

    specification: vision_pb2.ClassSpecification
    rules: tuple[vision_pb2.TypedRule, ...]


class _TextLoader(yaml.BaseLoader):
    """Takes every word as it stands: a class may be called `no` or `01`. A name that comes twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        names = [self.construct_object(key) for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f"'{name}' stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def load_specification(path: Path) -> SpecificationFile:
    """Read a specification file with its rules.

    Raises
    ------
    PlumblineError
        When it is no YAML, a key is missing, unknown or of the wrong kind, or a rule's phrase is not in the class's sentence; names the key.
        What the words mean, and whether the model has these classes, is for the services to say.
    """
    content = _load_mapping(path, ("task", "classes"), ("rules",))
    classes = content.get("classes")
    if not isinstance(classes, dict) or not classes:
        raise PlumblineError(f"{path}: classes: expected a rule per class, or one for 'all'")
    by_class = {str(name): _read_class_rule(path, str(name), rule) for name, rule in classes.items()}
    specification = vision_pb2.ClassSpecification(task=_read_task(path, content), rules=by_class.values())
    entries = content.get("rules", [])
    if not isinstance(entries, list):
        raise PlumblineError(f"{path}: rules: expected a list of rules")
    rules = tuple(_read_rule(path, f"rules[{index}]", entry, by_class) for index, entry in enumerate(entries))
    return SpecificationFile(specification, rules)


def load_sentences(path: Path) -> SentencesFile:
    """Read a file of plain sentences.

    Raises
    ------
    PlumblineError
        When it is no YAML, or a key is missing, unknown or of the wrong kind; names the key.
    """
    content = _load_mapping(path, ("task", "classes", "sentences"))
    sentences = content.get("sentences")
    if not isinstance(sentences, dict) or not sentences:
        raise PlumblineError(f"{path}: sentences: expected sentences per class, or for 'all'")
    for name, text in sentences.items():
        _expect_text(path, f"sentences.{name}", text)
    names = _expect_texts(path, "classes", content.get("classes"))
    return SentencesFile(_read_task(path, content), tuple(names), sentences)


def dump_specification(specification: vision_pb2.ClassSpecification, rules: Sequence[vision_pb2.TypedRule]) -> str:
    """A specification file with its confirmed rules, as `load_specification` reads it."""
    classes = {
        rule.class_name: {key: getattr(rule, key) for key in _SENTENCE_KEYS.values() if getattr(rule, key)}
        for rule in specification.rules
    }
    names = {value: name for name, value in _SIDES.items()}
    entries = [
        {
            "class": rule.class_name,
            "concept": rule.concept,
            "polarity": names[rule.polarity],
            "phrases": list(rule.noun_phrases),
        }
        for rule in rules
    ]
    content = {"task": specification.task, "classes": classes, "rules": entries}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _load_mapping(path: Path, keys: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _TextLoader)
    except OSError as error:
        raise PlumblineError(f"{path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlumblineError(f"{path}: not YAML: {error}") from error
    return _expect_mapping(path, "the file", content, keys, optional)


def _read_task(path: Path, content: dict[str, Any]) -> str:
    task = content.get("task", "")
    if not isinstance(task, str) or not task.strip():
        raise PlumblineError(f"{path}: task: expected the task in one sentence")
    return task


def _read_class_rule(path: Path, name: str, rule: Any) -> vision_pb2.ClassRule:
    field = f"classes.{name}"
    rule = _expect_mapping(path, field, rule, tuple(_SENTENCE_KEYS.values()))
    for key, text in rule.items():
        if not isinstance(text, str):
            raise PlumblineError(f"{path}: {field}.{key}: expected a sentence, got {type(text).__name__}")
    return vision_pb2.ClassRule(class_name=name, **rule)


def _read_rule(path: Path, field: str, entry: Any, by_class: dict[str, vision_pb2.ClassRule]) -> vision_pb2.TypedRule:
    entry = _expect_mapping(path, field, entry, ("class", "concept", "polarity", "phrases"))
    name = _expect_text(path, f"{field}.class", entry.get("class"))
    concept = _expect_text(path, f"{field}.concept", entry.get("concept"))
    polarity = _expect_text(path, f"{field}.polarity", entry.get("polarity"))
    phrases = _expect_texts(path, f"{field}.phrases", entry.get("phrases"))
    if name not in by_class:
        raise PlumblineError(f"{path}: {field}.class: '{name}' is none of the classes above: {', '.join(by_class)}")
    if polarity not in _SIDES:
        raise PlumblineError(f"{path}: {field}.polarity: expected {' or '.join(_SIDES)}, got '{polarity}'")
    sentence = getattr(by_class[name], _SENTENCE_KEYS[polarity])
    for phrase in phrases:
        if _fold(phrase) not in _fold(sentence):
            raise PlumblineError(
                f"{path}: {field}.phrases: '{phrase}' does not stand in classes.{name}.{_SENTENCE_KEYS[polarity]}; "
                "change both or compile again"
            )
    return vision_pb2.TypedRule(class_name=name, concept=concept, polarity=_SIDES[polarity], noun_phrases=phrases)


def _fold(text: str) -> str:
    return " ".join(text.lower().split())


def _expect_texts(path: Path, field: str, content: Any) -> list[str]:
    if not isinstance(content, list) or not content:
        raise PlumblineError(f"{path}: {field}: expected a list of texts")
    return [_expect_text(path, f"{field}[{index}]", text) for index, text in enumerate(content)]


def _expect_text(path: Path, field: str, text: Any) -> str:
    if not isinstance(text, str) or not text.strip():
        raise PlumblineError(f"{path}: {field}: expected a text")
    return text


def _expect_mapping(
    path: Path, field: str, content: Any, keys: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise PlumblineError(f"{path}: {field}: expected {' and '.join(keys)}")
    unknown = [str(key) for key in content if key not in (*keys, *optional)]
    if unknown:
        raise PlumblineError(
            f"{path}: {field}: unknown key {', '.join(unknown)}; expected {', '.join((*keys, *optional))}"
        )
    return content

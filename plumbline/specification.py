"""The class specification as a file: what an expert writes.

task: Read the handwritten digit.
classes:
  "3": {should_matter: the strokes of the digit, should_not_matter: the grey square in the corner}
  all: {should_matter: the strokes of the digit}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from plumbline.common.v1 import vision_pb2
from plumbline.errors import PlumblineError

_RULE_KEYS = ("should_matter", "should_not_matter")


class _TextLoader(yaml.BaseLoader):
    """Takes every word as it stands: a class may be called `no` or `01`. A name that comes twice is an error, not the last one's."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        names = [self.construct_object(key) for key, _ in node.value]
        for (key, _), name in zip(node.value, names, strict=True):
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(problem=f"'{name}' stands twice", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def load_specification(path: Path) -> vision_pb2.ClassSpecification:
    """Read a specification file.

    Raises
    ------
    PlumblineError
        When it is no YAML, or a key is missing, unknown or of the wrong kind; names the key. What the words mean, and whether the model has
        these classes, is for the services to say.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _TextLoader)
    except OSError as error:
        raise PlumblineError(f"{path}: {error.strerror}; expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlumblineError(f"{path}: not YAML: {error}") from error
    content = _expect_mapping(path, "the file", content, ("task", "classes"))
    task = content.get("task", "")
    if not isinstance(task, str) or not task.strip():
        raise PlumblineError(f"{path}: task: expected the task in one sentence")
    classes = content.get("classes")
    if not isinstance(classes, dict) or not classes:
        raise PlumblineError(f"{path}: classes: expected a rule per class, or one for 'all'")
    rules = [_read_rule(path, str(name), rule) for name, rule in classes.items()]
    return vision_pb2.ClassSpecification(task=task, rules=rules)


def _read_rule(path: Path, name: str, rule: Any) -> vision_pb2.ClassRule:
    field = f"classes.{name}"
    rule = _expect_mapping(path, field, rule, _RULE_KEYS)
    for key, text in rule.items():
        if not isinstance(text, str):
            raise PlumblineError(f"{path}: {field}.{key}: expected a sentence, got {type(text).__name__}")
    return vision_pb2.ClassRule(class_name=name, **rule)


def _expect_mapping(path: Path, field: str, content: Any, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise PlumblineError(f"{path}: {field}: expected {' and '.join(keys)}")
    unknown = [str(key) for key in content if key not in keys]
    if unknown:
        raise PlumblineError(f"{path}: {field}: unknown key {', '.join(unknown)}; expected {', '.join(keys)}")
    return content

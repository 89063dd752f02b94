"""What the experts say should and should not matter, per class."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from services.common.runtime.errors import InvalidInput

EVERY_CLASS = "all"
MAX_SENTENCE_LENGTH = 2000


@dataclass(frozen=True)
class ClassRule:
    """What the decision for one class should and should not rest on; one of the two may be empty."""

    class_name: str
    should_matter: str = ""
    should_not_matter: str = ""


@dataclass(frozen=True)
class ClassSpecification:
    """The task in a sentence and a rule per class, or one for all of them."""

    task: str
    rules: tuple[ClassRule, ...]

    def __post_init__(self) -> None:
        if not self.rules:
            raise InvalidInput("rules", "expected at least one class with `should_matter` or `should_not_matter`")
        seen: set[str] = set()
        for index, rule in enumerate(self.rules):
            field = f"rules[{index}]"
            if not rule.class_name:
                raise InvalidInput(f"{field}.class_name", "expected the name of a class, or 'all'")
            if rule.class_name in seen:
                raise InvalidInput(f"{field}.class_name", f"class '{rule.class_name}' has two rules; expected one")
            seen.add(rule.class_name)
            if not rule.should_matter.strip() and not rule.should_not_matter.strip():
                raise InvalidInput(
                    f"{field}.should_matter",
                    f"class '{rule.class_name}' says neither what should matter nor what should not; expected one of the two",
                )
            _check_length(f"{field}.should_matter", rule.should_matter)
            _check_length(f"{field}.should_not_matter", rule.should_not_matter)
        _check_length("task", self.task)

    def check_classes(self, labels: Collection[str]) -> None:
        """Raise `InvalidInput` when a rule names a class the model does not have, or a class has no rule."""
        for index, rule in enumerate(self.rules):
            if rule.class_name != EVERY_CLASS and rule.class_name not in labels:
                raise InvalidInput(
                    f"rules[{index}].class_name",
                    f"the model has no class '{rule.class_name}'; it has {', '.join(labels)}",
                )
        named = {rule.class_name for rule in self.rules}
        missing = [label for label in labels if label not in named]
        if missing and EVERY_CLASS not in named:
            raise InvalidInput("rules", f"no rule for class {', '.join(missing)} and none for 'all'")

    def rule_for(self, class_name: str) -> ClassRule:
        """The rule of `class_name`, else the one for all.

        Raises
        ------
        InvalidInput
            When there is neither.
        """
        by_name = {rule.class_name: rule for rule in self.rules}
        rule = by_name.get(class_name) or by_name.get(EVERY_CLASS)
        if rule is None:
            raise InvalidInput("rules", f"no rule for class '{class_name}' and none for 'all'")
        return rule


def _check_length(field: str, text: str) -> None:
    if len(text) > MAX_SENTENCE_LENGTH:
        raise InvalidInput(field, f"{len(text)} characters; at most {MAX_SENTENCE_LENGTH} are taken")

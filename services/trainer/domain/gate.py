"""The gate: declared criteria that a challenger must meet before it is served. Label-free numbers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from services.trainer.domain.criteria import LEAST_CLOSED, LEAST_GAIN, Criteria
from services.trainer.domain.evidence import Evidence

TOLERANCE = 1e-9
"""A fall of 0.05 from 0.95 is a little more than 0.05 in binary; it is allowed all the same."""


@dataclass(frozen=True)
class Check:
    """One criterion with its numbers."""

    criterion: str
    before: float | None
    after: float | None
    is_met: bool


@dataclass(frozen=True)
class Decision:
    """Publish or not, and why."""

    is_accepted: bool
    checks: tuple[Check, ...]

    @property
    def reason(self) -> str:
        """The criteria that were missed, in words; all of them when none was."""
        told = [check for check in self.checks if self.is_accepted or not check.is_met]
        return "; ".join(f"{check.criterion}: {_show(check.before)} → {_show(check.after)}" for check in told)

    def as_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        return asdict(self) | {"reason": self.reason}


def decide(before: Evidence, after: Evidence, criteria: Criteria) -> Decision:
    """Hold `after` against `before`, both measured on the same pictures; one check per criterion that is asked."""
    checks = (
        Check(
            f"validation accuracy falls by at most {allow_drop(before, criteria):.3g}",
            before.accuracy,
            after.accuracy,
            keeps_accuracy(before, after, criteria),
        ),
        *_check_classes(before, after, criteria),
        *_check_shortcut(before, after, criteria),
    )
    return Decision(all(check.is_met for check in checks), checks)


def _check_classes(before: Evidence, after: Evidence, criteria: Criteria) -> list[Check]:
    pairs = list(zip(before.class_accuracy, after.class_accuracy, strict=True))
    falls, least = max(pairs, key=lambda pair: pair[0] - pair[1]), criteria.min_class_accuracy
    checks = [
        Check(
            f"no class falls by more than {criteria.max_class_accuracy_drop:g}",
            *falls,
            _is_at_most(falls[0] - falls[1], criteria.max_class_accuracy_drop),
        )
    ]
    if least is not None:
        worst = min(pairs, key=lambda pair: pair[1])
        checks.append(Check(f"no class is worse than {least:g}", *worst, _is_at_most(least, worst[1])))
    return checks


def _check_shortcut(before: Evidence, after: Evidence, criteria: Criteria) -> list[Check]:
    gain, rise, drop = ask_gain(before, criteria), criteria.max_flip_rate_rise, criteria.min_reliance_drop
    can_swap = None not in (before.swap_accuracy, after.swap_accuracy, before.flip_rate, after.flip_rate)
    checks = [
        Check(
            f"accuracy under swapped regions rises by at least {gain:.3g}",
            before.swap_accuracy,
            after.swap_accuracy,
            can_swap and _is_at_most(gain, after.swap_accuracy - before.swap_accuracy),
        ),
        Check(
            f"the shortcut flip rate rises by at most {rise:g}" if rise else "the shortcut flip rate does not rise",
            before.flip_rate,
            after.flip_rate,
            can_swap and _is_at_most(after.flip_rate - before.flip_rate, rise),
        ),
    ]
    if drop is not None:
        is_measured = None not in (before.reliance, after.reliance)
        falls = is_measured and _is_at_most(drop, before.reliance - after.reliance)
        criterion = f"the part of the decision in criticised regions falls by at least {drop:g}"
        checks.append(Check(criterion, before.reliance, after.reliance, falls))
    return checks


def ask_gain(before: Evidence, criteria: Criteria) -> float:
    """How much swap accuracy must rise: unless a job says it, the more the more swaps cost."""
    if criteria.min_swap_accuracy_gain is not None:
        return criteria.min_swap_accuracy_gain
    return max(LEAST_GAIN, LEAST_CLOSED * (1 - (before.swap_accuracy or 0.0)))


def allow_drop(before: Evidence, criteria: Criteria) -> float:
    """How much validation accuracy may be lost: the more decisions rested on the shortcut, the more."""
    return criteria.max_accuracy_drop + criteria.max_flipped_loss * (before.flip_rate or 0.0)


def keeps_accuracy(before: Evidence, after: Evidence, criteria: Criteria) -> bool:
    """Whether no more validation accuracy was lost than may be."""
    return _is_at_most(before.accuracy - after.accuracy, allow_drop(before, criteria))


def _is_at_most(value: float, limit: float) -> bool:
    return value <= limit + TOLERANCE


def _show(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"

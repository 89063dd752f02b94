"""The gate: declared criteria that a challenger must meet before it is served. Label-free numbers only."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from services.trainer.domain.evidence import Evidence

TOLERANCE = 1e-9
"""A fall of 0.05 from 0.95 is a little more than 0.05 in binary; it is allowed all the same."""


@dataclass(frozen=True)
class Criteria:
    """What must hold; ratios from 0 to 1.

    The validation pictures are made like the training data: a model that gives its shortcut up loses a little there, so the two drops
    are allowances, not goals. Decisions that followed the region before (the flip rate) rested on it, and nothing says that the pictures without it are
    all that easy: `max_flipped_loss` of them may be lost beside `max_accuracy_drop`.
    """

    max_accuracy_drop: float = 0.05
    max_flipped_loss: float = 0.10
    max_class_accuracy_drop: float = 0.20
    min_swap_accuracy_gain: float = 0.01
    max_flip_rate_rise: float = 0.0


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
    """Hold `after` against `before`, both measured on the same pictures."""
    pairs = list(zip(before.class_accuracy, after.class_accuracy, strict=True))
    worst = max(pairs, key=lambda pair: pair[0] - pair[1])
    can_swap = None not in (before.swap_accuracy, after.swap_accuracy, before.flip_rate, after.flip_rate)
    gain = can_swap and _is_at_most(criteria.min_swap_accuracy_gain, after.swap_accuracy - before.swap_accuracy)
    calm = can_swap and _is_at_most(after.flip_rate - before.flip_rate, criteria.max_flip_rate_rise)
    checks = (
        Check(
            f"validation accuracy falls by at most {allow_drop(before, criteria):.3g}",
            before.accuracy,
            after.accuracy,
            keeps_accuracy(before, after, criteria),
        ),
        Check(
            f"no class falls by more than {criteria.max_class_accuracy_drop:g}",
            worst[0],
            worst[1],
            _is_at_most(worst[0] - worst[1], criteria.max_class_accuracy_drop),
        ),
        Check(
            f"accuracy under swapped regions rises by at least {criteria.min_swap_accuracy_gain:g}",
            before.swap_accuracy,
            after.swap_accuracy,
            gain,
        ),
        Check("the shortcut flip rate does not rise", before.flip_rate, after.flip_rate, calm),
    )
    return Decision(all(check.is_met for check in checks), checks)


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

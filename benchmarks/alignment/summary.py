"""From runs over seeds to means, intervals and paired tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from services.trainer.domain.criteria import Criteria
from services.trainer.domain.evidence import Evidence
from services.trainer.domain.gate import decide

FIGURES = ("overall", "worst_group")
CONFIDENCE = 0.95


def summarise(runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per arm and figure: mean and half-width of its 95 % interval in points (Student's t over seeds), least and most; gain over plain
    and difference from the method with the p of a paired t-test. Figures of one seed have no interval.

    `runs`: seed to arm to result.
    """
    names = list(dict.fromkeys(name for arms in runs.values() for name in arms))
    return {
        name: {figure: _summarise(runs, name, figure) for figure in FIGURES} | {"accepted": _count_accepted(runs, name)}
        for name in names
    }


def _summarise(runs: dict[str, dict[str, Any]], name: str, figure: str) -> dict[str, Any]:
    values = _points(runs, figure, (name,))[0]
    told: dict[str, Any] = {"seeds": len(values)} | _interval(values)
    told |= {"least": round(min(values), 2), "most": round(max(values), 2)}
    for title, other in (("gain_over_plain", "plain"), ("above_nano", "nano")):
        own, others = _points(runs, figure, (name, other))
        if name != other and own:
            told[title] = _interval(np.subtract(own, others)) | {"p": _paired_p(own, others)}
    return told


def _count_accepted(runs: dict[str, dict[str, Any]], name: str) -> str | None:
    """In how many of its seeds the gate took the arm's model; None for an arm that does not come to the gate."""
    asked = [_is_accepted(arms[name]) for arms in runs.values() if "is_accepted" in arms.get(name, {})]
    return f"{sum(asked)} of {len(asked)}" if asked else None


def _is_accepted(result: dict[str, Any]) -> bool:
    """What today's gate says of the evidence that a run kept; of the correction, which keeps none, what the gate said then."""
    if "before" not in result:
        return result["is_accepted"]
    return decide(Evidence(**result["before"]), Evidence(**result["after"]), Criteria()).is_accepted


def _points(runs: dict[str, dict[str, Any]], figure: str, names: Sequence[str]) -> list[list[float]]:
    """Accuracies in points of the seeds that have all of `names`, one list a name."""
    seeds = [arms for arms in runs.values() if all(name in arms for name in names)]
    return [[100 * arms[name]["test"][figure] for arms in seeds] for name in names]


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    count = len(values)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * stats.sem(values) if count > 1 else None
    return {"mean": round(float(np.mean(values)), 2), "half_width": None if half is None else round(float(half), 2)}


def _paired_p(own: Sequence[float], others: Sequence[float]) -> float | None:
    if len(own) < 2 or np.ptp(np.subtract(own, others)) == 0:
        return None
    return float(f"{stats.ttest_rel(own, others).pvalue:.2g}")

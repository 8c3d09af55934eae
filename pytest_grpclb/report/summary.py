"""The terminal summary: one row per test and strategy."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import Outcome
from pytest_grpclb.report.tables import format_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_grpclb.model import Verdict

__all__ = ["bars", "format_summary", "summary_row"]

# Nine heights each, from nothing to twice the fair share and more; the fair share is in the middle.
_BLOCKS = "_\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_ASCII = "_.,:-=+*#"
_FAIR = 4

_WORSE = (Outcome.EVEN.value, Outcome.INCONCLUSIVE.value, Outcome.SKEWED.value)

_MOST_BARS = 32
"""Pods that get a bar of their own; a row should fit a screen."""


def summary_row(strategy: str, test: str, verdict: Verdict) -> str:
    """Return a verdict as a line of JSON, fit to pass through xdist and into a JUnit file."""
    calls = verdict.calls
    return json.dumps(
        {
            "strategy": strategy,
            "test": test,
            "verdict": verdict.outcome.value,
            "calls": calls,
            "backends": verdict.backends,
            "alpha": verdict.alpha,
            "max_over_mean": round(verdict.max_over_mean, 4),
            "shares": [round(count / max(1, calls), 4) for count in verdict.counts.values()],
        }
    )


def format_summary(tests: Iterable[Sequence[str]], *, ascii_only: bool = False) -> str:
    """Return a table with a row for each test: its verdicts, and the figures of the worst of them.

    :param tests: the verdicts of each test, as `summary_row` wrote them
    :param ascii_only: the terminal's encoding has no block elements
    """
    header = ("strategy", "verdict", "N", "K", "max/mean", "pods", "test")
    lines = []
    several = False
    for verdicts in tests:
        rows = sorted(map(json.loads, verdicts), key=_badness)
        if not rows:
            continue
        several = several or len(rows) > 1
        worst = rows[-1]
        lines.append(
            (
                worst["strategy"],
                _count_verdicts(rows),
                str(worst["calls"]),
                str(worst["backends"]),
                f"{worst['max_over_mean']:.2f}",
                bars(worst["shares"], ascii_only=ascii_only),
                worst["test"],
            )
        )
    table = format_table(header, lines, left=("strategy", "verdict", "pods", "test"))
    of_which = "; of several verdicts the worst is shown" if several else ""
    return f"{table}\npods: a bar of half height is a fair share{of_which}\n"


def _badness(row: Mapping[str, Any]) -> tuple[int, float]:
    """Return what puts verdicts in order, the worst last: the outcome, then how uneven it is."""
    return _WORSE.index(row["verdict"]), row["max_over_mean"]


def _count_verdicts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the outcomes, the worst first, and how many there are of each."""
    numbers = Counter(row["verdict"] for row in rows)
    return ", ".join(
        outcome if numbers[outcome] == 1 else f"{outcome} x {numbers[outcome]}"
        for outcome in reversed(_WORSE)
        if numbers[outcome]
    )


def bars(shares: Sequence[float], *, ascii_only: bool = False) -> str:
    """Return one character per pod: the taller, the more calls; half height is a fair share.

    :param shares: fraction of all calls that each pod answered
    """
    levels = _ASCII if ascii_only else _BLOCKS
    shown = shares[:_MOST_BARS]
    drawn = "".join(_level(share * len(shares), levels) for share in shown)
    return drawn if len(shown) == len(shares) else f"{drawn}+{len(shares) - len(shown)}"


def _level(times_fair: float, levels: str) -> str:
    if times_fair <= 0.0:
        return levels[0]
    # A pod that got anything is not drawn like one that got nothing.
    return levels[max(1, min(len(levels) - 1, round(times_fair * _FAIR)))]

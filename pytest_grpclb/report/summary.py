"""The terminal summary: one row per verdict."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pytest_grpclb.report.tables import format_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_grpclb.model import Verdict

__all__ = ["bars", "format_summary", "summary_row"]

# Nine heights each, from nothing to twice the fair share and more; the fair share is in the middle.
_BLOCKS = "_\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
_ASCII = "_.,:-=+*#"
_FAIR = 4

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


def format_summary(rows: Iterable[str], *, ascii_only: bool = False) -> str:
    """Return a table of verdicts, as `summary_row` wrote them, with a bar for each pod.

    :param ascii_only: the terminal's encoding has no block elements
    """
    header = ("strategy", "verdict", "N", "K", "max/mean", "pods", "test")
    lines = [
        (
            row["strategy"],
            row["verdict"],
            str(row["calls"]),
            str(row["backends"]),
            f"{row['max_over_mean']:.2f}",
            bars(row["shares"], ascii_only=ascii_only),
            row["test"],
        )
        for row in map(json.loads, rows)
    ]
    table = format_table(header, lines, left=("strategy", "verdict", "pods", "test"))
    return f"{table}\npods: a bar of half height is a fair share\n"


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

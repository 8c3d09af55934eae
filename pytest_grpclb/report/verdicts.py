"""A verdict as people read it: one line, or the whole story of a failure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_grpclb.report.diagnosis import diagnose
from pytest_grpclb.report.streams import stream_table
from pytest_grpclb.report.tables import client_view, failed_calls, pod_table, timeline

if TYPE_CHECKING:
    from pytest_grpclb.model import Traffic, Verdict

__all__ = ["format_failure", "format_verdict_line"]


def format_verdict_line(verdict: Verdict) -> str:
    """Return the numbers of a verdict and the rates that it holds at, in one line."""
    skew = verdict.detectable_skew
    found = f"at skew {skew:.2f}" if math.isfinite(skew) else "at no skew"
    return (
        f"{verdict.outcome.value}  N={verdict.calls} K={verdict.backends}  "
        f"max/mean {verdict.max_over_mean:.2f}  min/mean {verdict.min_over_mean:.2f}  "
        f"Jain {verdict.jain:.2f}  alpha {verdict.alpha:.3g}  power {verdict.power:g} {found}"
    )


def format_failure(traffic: Traffic, verdict: Verdict) -> str:
    """Return all that explains a verdict which is not EVEN, the likeliest cause first."""
    lines = [f"{traffic.strategy}: {verdict.outcome.value}: {_clauses(verdict.reason)}"]
    cause, _, remedy = diagnose(traffic, verdict).partition("; ")
    if cause:
        lines += [f"likely cause: {cause}", f"what to do: {remedy}"]
    lines += ["", format_verdict_line(verdict), f"test: {verdict.test}"]
    sections = (
        ("pods", pod_table(traffic, verdict)),
        ("open streams", stream_table(traffic)),
        ("client", client_view(traffic)),
        ("timeline, from the first counted call", timeline(traffic)),
        ("failed calls", failed_calls(traffic)),
    )
    for title, text in sections:
        if text:
            lines += ["", f"-- {title}", text]
    return "\n".join(lines)


def _clauses(sentence: str) -> str:
    """Break a sentence after its semicolons: unlike at a fixed width, its parts stay searchable."""
    return ";\n  ".join(sentence.split("; "))

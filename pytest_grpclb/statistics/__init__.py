"""Statements on spreads with stated error rates: pure functions on counts and columns."""

from __future__ import annotations

from pytest_grpclb.statistics.binomial import critical_count, lower_tail, upper_tail
from pytest_grpclb.statistics.columns import (
    Answer,
    ChannelPath,
    answers,
    channel_paths,
    count_unnamed,
    first_answers,
)
from pytest_grpclb.statistics.latency import (
    SlowBackend,
    latencies,
    percentile,
    slow_backends,
)
from pytest_grpclb.statistics.sequential import EvenProof, SkewAlarm, convergence_start
from pytest_grpclb.statistics.sizing import (
    calls_needed,
    calls_needed_round_robin,
    calls_proving_absence,
    detectable_skew,
    detectable_skew_round_robin,
    round_robin_limit,
)
from pytest_grpclb.statistics.spread import (
    chi_square,
    count_interval,
    describe_strangers,
    judge_spread,
    plural,
)

__all__ = [
    "Answer",
    "ChannelPath",
    "EvenProof",
    "SkewAlarm",
    "SlowBackend",
    "answers",
    "calls_needed",
    "calls_needed_round_robin",
    "calls_proving_absence",
    "channel_paths",
    "chi_square",
    "convergence_start",
    "count_interval",
    "count_unnamed",
    "critical_count",
    "describe_strangers",
    "detectable_skew",
    "detectable_skew_round_robin",
    "first_answers",
    "judge_spread",
    "latencies",
    "lower_tail",
    "percentile",
    "plural",
    "round_robin_limit",
    "slow_backends",
    "upper_tail",
]

"""The verdict on a spread: which test applies, and what it says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_grpclb.model import Mechanism, Outcome, Verdict
from pytest_grpclb.statistics.binomial import critical_count, lower_tail, upper_tail
from pytest_grpclb.statistics.sizing import (
    calls_needed,
    calls_needed_round_robin,
    detectable_skew,
    detectable_skew_round_robin,
    fair_shares,
    round_robin_limit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_grpclb.model import Alarm

__all__ = ["chi_square", "count_interval", "describe_strangers", "judge_spread", "plural"]


def judge_spread(
    counts: Mapping[str, int],
    *,
    backends: Sequence[str],
    mechanism: Mechanism,
    alpha: float,
    power: float,
    skew: float,
    pickers: int = 1,
    picker_rebuilds: int | None = None,
    connections: Mapping[str, int] | None = None,
    replaced_connections: int = 0,
    weights: Sequence[float] | None = None,
    names: Mapping[str, str] | None = None,
    alarm: Alarm | None = None,
    unit: str = "call",
) -> Verdict:
    """Return what *counts* allow one to say about the spread over *backends*.

    The test follows the mechanism. Round robin whose pickers stood while calls were counted: the
    exact bound, which never gives a false alarm (unless pickers are so many that the bound needs
    more calls than the test below). Connections: each is one pick, so that they are counted; only
    where they are fewer than the backends, calls can show the skew that this means. Anything else:
    an exact binomial test per backend, Bonferroni-corrected.

    A skew is said at any number of calls, for the false-alarm rate holds at each; EVEN only where a
    hot backend would have been found with ``power``.

    :param counts: calls answered, by backend; who is not in *backends* is a stranger
    :param backends: who should have shared the calls
    :param alpha: false-alarm rate of the binomial test
    :param power: probability that one backend at *skew* times its share is found
    :param pickers: round-robin pickers that worked independently
    :param picker_rebuilds: how often one was replaced meanwhile; None: unknown
    :param connections: connections that each backend was given, for ``Mechanism.CONNECTION``
    :param replaced_connections: how many more are known of, though not all that there were
    :param weights: each backend's share in proportion; without them all are equal
    :param names: what to call backends in the reason, where it is not their key
    :param alarm: the watch that was kept while calls were sent; the verdict is SKEWED if it cried
        out, and the false-alarm rates add up if the test has one
    :param unit: what was counted, in the singular
    :raises ValueError: if there are fewer than two backends, a count is negative, or a rate is none
    """
    negative = {backend: count for backend, count in counts.items() if count < 0}
    if negative:
        raise ValueError(f"counts: {negative!r} cannot be negative")
    if len(set(backends)) != len(backends):
        raise ValueError(f"backends: {list(backends)!r}; each may be given once")
    strangers = {
        backend: count for backend, count in counts.items() if count and backend not in backends
    }
    expected = {backend: counts.get(backend, 0) for backend in backends}
    sample = _Sample(
        counts=expected,
        shares=dict(zip(backends, fair_shares(len(backends), weights), strict=True)),
        alpha=alpha,
        power=power,
        skew=skew,
        names=names or {},
        unit=unit,
    )
    if mechanism is Mechanism.CONNECTION:
        judgement = _judge_connections(sample, connections or {}, replaced_connections)
    elif mechanism is Mechanism.ROUND_ROBIN and picker_rebuilds == 0 and weights is None:
        judgement = _judge_round_robin(sample, pickers)
        if judgement.needed_calls > (binomial := _judge_binomial(sample)).needed_calls:
            judgement = binomial
    else:
        judgement = _judge_binomial(sample)
    if alarm is not None:
        judgement = _heed(alarm, judgement, sample)
    outcome, reason = judgement.outcome, judgement.reason
    if strangers:
        outcome = Outcome.SKEWED
        named = {sample.name(stranger): count for stranger, count in strangers.items()}
        reason = describe_strangers(named, backends=len(backends), unit=unit)
    return Verdict(
        outcome=outcome,
        counts={**expected, **strangers},
        calls=sum(expected.values()) + sum(strangers.values()),
        backends=len(backends),
        alpha=judgement.alpha,
        power=power,
        detectable_skew=judgement.detectable_skew,
        needed_calls=judgement.needed_calls,
        test=judgement.test,
        reason=reason,
        fair_shares=sample.shares if weights is not None else {},
        certain_after=alarm.raised_after if alarm is not None else None,
    )


def count_interval(calls: int, share: float, *, tail: float) -> tuple[int, int]:
    """Return the counts between which one backend's count must lie, both included.

    :param share: the backend's fair share of the calls
    :param tail: most probability that either side beyond the interval may have
    """
    # As many failures as the mirrored test calls too many: the smallest count still allowed.
    lowest = calls - critical_count(calls, 1.0 - share, tail) + 1
    return lowest, critical_count(calls, share, tail) - 1


def chi_square(counts: Mapping[str, int], *, min_expected: float = 5.0) -> float:
    """Return Pearson's chi-square of *counts* against an even split, for information.

    No verdict uses it: at the number of calls that tests send, its real error rate at a small alpha
    is a multiple of the nominal one.

    :param counts: calls answered, by backend (pure numbers)
    :param min_expected: smallest expected count per backend allowed
    :raises ValueError: if a backend's expected count is below ``min_expected``
    :source: NIST/SEMATECH e-Handbook, section 1.3.5.15
    """
    expected = sum(counts.values()) / len(counts) if counts else 0.0
    if expected < min_expected:
        raise ValueError(
            f"counts: {expected:g} calls expected per backend; chi-square needs at least "
            f"{min_expected:g}, so send more calls"
        )
    return sum((count - expected) ** 2 for count in counts.values()) / expected


def describe_strangers(strangers: Mapping[str, int], *, backends: int, unit: str = "call") -> str:
    """Return, for people, that others than the *backends* have answered.

    :param strangers: calls answered, by who did
    """
    total = sum(strangers.values())
    who = ", ".join(repr(stranger) for stranger in sorted(strangers))
    verb = "was" if total == 1 else "were"
    return f"{plural(total, unit)} {verb} answered by {who}, none of the {backends} backends"


def plural(number: int, noun: str) -> str:
    """Return the number and its noun, as in "1 call" and "2 calls"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """What is judged, and at which rates."""

    counts: Mapping[str, int]
    shares: Mapping[str, float]
    alpha: float
    power: float
    skew: float
    names: Mapping[str, str]
    unit: str = "call"

    @property
    def calls(self) -> int:
        return sum(self.counts.values())

    @property
    def weights(self) -> list[float]:
        return list(self.shares.values())

    def name(self, backend: str) -> str:
        return self.names.get(backend, backend)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judgement:
    """What one test says."""

    outcome: Outcome
    alpha: float
    detectable_skew: float
    needed_calls: int
    test: str
    reason: str


def _judge_round_robin(sample: _Sample, pickers: int) -> _Judgement:
    backends, calls = len(sample.counts), sample.calls
    limit = round_robin_limit(pickers)
    idlest = min(sample.counts, key=lambda backend: sample.counts[backend])
    busiest = max(sample.counts, key=lambda backend: sample.counts[backend])
    difference = sample.counts[busiest] - sample.counts[idlest]
    allowed = f"round robin with {plural(pickers, 'picker')} allows {limit}"
    needed = calls_needed_round_robin(
        backends, pickers=pickers, power=sample.power, skew=sample.skew
    )
    found = detectable_skew_round_robin(calls, backends, pickers=pickers, power=sample.power)
    if difference > limit:
        outcome = Outcome.SKEWED
        reason = (
            f"{sample.name(busiest)} {_verb(sample.unit)} {difference} {sample.unit}s more than "
            f"{sample.name(idlest)}; {allowed}"
        )
    elif calls < needed:
        outcome, reason = Outcome.INCONCLUSIVE, _too_few(sample.unit, calls, needed, found, sample)
    else:
        outcome = Outcome.EVEN
        reason = f"counts differ by at most {difference}; {allowed}"
    return _Judgement(
        outcome=outcome,
        alpha=0.0,
        detectable_skew=found,
        needed_calls=needed,
        test="exact round-robin bound",
        reason=reason,
    )


def _judge_binomial(sample: _Sample) -> _Judgement:
    backends, calls, unit = len(sample.counts), sample.calls, sample.unit
    tail = sample.alpha / (2 * backends)
    needed = calls_needed(
        backends, alpha=sample.alpha, power=sample.power, skew=sample.skew, weights=sample.weights
    )
    found = detectable_skew(
        calls, backends, alpha=sample.alpha, power=sample.power, weights=sample.weights
    )
    # The least likely count first: it is the one that a reader should look at.
    outside = sorted(
        (rarity, backend)
        for backend, count in sample.counts.items()
        if (rarity := _rarity(count, calls, sample.shares[backend])) <= tail
    )
    if outside:
        outcome, reason = Outcome.SKEWED, _describe_outside(outside, sample, tail, unit)
    elif calls < needed:
        outcome, reason = Outcome.INCONCLUSIVE, _too_few(unit, calls, needed, found, sample)
    else:
        outcome, reason = Outcome.EVEN, _describe_inside(sample, tail, unit)
    return _Judgement(
        outcome=outcome,
        alpha=sample.alpha,
        detectable_skew=found,
        needed_calls=needed,
        test=f"exact binomial per backend, {unit}s as the unit",
        reason=reason,
    )


def _judge_connections(
    sample: _Sample, connections: Mapping[str, int], replaced: int
) -> _Judgement:
    picks = _Sample(
        counts={backend: connections.get(backend, 0) for backend in sample.counts},
        shares=sample.shares,
        alpha=sample.alpha,
        power=sample.power,
        skew=sample.skew,
        names=sample.names,
        unit="connection",
    )
    by_connections = _judge_binomial(picks)
    few = picks.calls + replaced < len(sample.counts)
    if by_connections.outcome is Outcome.INCONCLUSIVE and few:
        # Fewer connections than backends: no pick of theirs could give every backend its share. Of
        # more, calls say nothing, for those of one connection share its backend.
        by_calls = _judge_binomial(sample)
        if by_calls.outcome is Outcome.SKEWED:
            return by_calls
    return by_connections


def _heed(alarm: Alarm, judgement: _Judgement, sample: _Sample) -> _Judgement:
    """Return *judgement* in the light of the watch that was kept."""
    if alarm.raised_after is None:
        # The exact bound is broken by no even spread, and no evidence is found against one.
        return replace(judgement, alpha=judgement.alpha + alarm.alpha if judgement.alpha else 0.0)
    rarest = min(
        sample.counts,
        key=lambda backend: _rarity(sample.counts[backend], sample.calls, sample.shares[backend]),
    )
    count, fair = sample.counts[rarest], sample.calls * sample.shares[rarest]
    multiple = f" ({count / fair:.2f} times its share)" if fair else ""
    return replace(
        judgement,
        outcome=Outcome.SKEWED,
        alpha=alarm.alpha,
        test="evidence against fair shares, looked at after every call",
        reason=(
            f"{sample.name(rarest)} answered {count} of {plural(sample.calls, 'call')}{multiple}; "
            f"that they are not even was certain after {alarm.raised_after}"
        ),
    )


def _rarity(count: int, calls: int, share: float) -> float:
    return min(upper_tail(count, calls, share), lower_tail(count, calls, share))


def _describe_outside(
    outside: Sequence[tuple[float, str]], sample: _Sample, tail: float, unit: str
) -> str:
    backend = outside[0][1]
    share, calls = sample.shares[backend], sample.calls
    lowest, highest = count_interval(calls, share, tail=tail)
    count = sample.counts[backend]
    multiple = f" ({count / (calls * share):.2f} times its share)" if share else ""
    others = f"; outside of theirs as well: {len(outside) - 1}" if len(outside) > 1 else ""
    return (
        f"{sample.name(backend)} {_verb(unit)} {count} of {plural(calls, unit)}{multiple}; "
        f"its fair share allows {lowest} to {highest}{others}"
    )


def _describe_inside(sample: _Sample, tail: float, unit: str) -> str:
    calls = sample.calls
    if len(set(sample.shares.values())) > 1:
        return f"each count of {unit}s lies within what its weight allows"
    share = next(iter(sample.shares.values()))
    lowest, highest = count_interval(calls, share, tail=tail)
    low, high = min(sample.counts.values()), max(sample.counts.values())
    return f"counts of {unit}s from {low} to {high}; fair shares allow {lowest} to {highest}"


def _verb(unit: str) -> str:
    return "answered" if unit == "call" else "was given"


def _too_few(unit: str, seen: int, needed: int, found: float, sample: _Sample) -> str:
    finding = f"these find {found:.2f} times" if math.isfinite(found) else "these find none"
    verb = "is" if seen == 1 else "are"
    return (
        f"{plural(seen, unit)} {verb} too few: {needed} are needed to find one backend at "
        f"{sample.skew:g} times its share; {finding}"
    )

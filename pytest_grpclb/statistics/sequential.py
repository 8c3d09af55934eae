"""Evidence that may be looked at after every call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_grpclb.statistics.sizing import fair_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["EvenProof", "SkewAlarm", "convergence_start"]


class SkewAlarm:
    """Raises an alarm as soon as the calls so far contradict the fair shares, at any moment.

    However often it is looked at, the probability of ever seeing an alarm on fair traffic is at
    most ``alpha``. It can only find a skew, never prove that there is none: the way to stop early.

    :source: Lindon, Malek, Anytime-Valid Inference for Multinomial Count Data, NeurIPS 2022, with
        a uniform prior over all shares
    """

    def __init__(
        self, backends: int, *, alpha: float, weights: Sequence[float] | None = None
    ) -> None:
        """Start without evidence.

        :param alpha: probability of an alarm, ever, where the shares are fair
        :param weights: each backend's share in proportion; without them all are equal
        :raises ValueError: if the rate is none, or the weights do not fit the backends
        """
        if not 0.0 < alpha < 1.0:
            raise ValueError(f"alpha: {alpha!r} is not between 0 and 1")
        self._shares = fair_shares(backends, weights)
        self._threshold = -math.log(alpha)
        self._counts = [0] * backends
        self._calls = 0
        self._log_evidence = 0.0
        self._raised_at: int | None = None

    @property
    def calls(self) -> int:
        """Return the calls observed so far."""
        return self._calls

    @property
    def log_evidence(self) -> float:
        """Return the natural logarithm of the evidence against the fair shares now."""
        return self._log_evidence

    @property
    def raised_at(self) -> int | None:
        """Return the number of calls at which the alarm was raised; None: not yet."""
        return self._raised_at

    def observe(self, backend: int) -> bool:
        """Take one more call into account, and return whether the alarm is or was raised.

        :param backend: which one answered, from 0
        """
        share = self._shares[backend]
        if share == 0.0:
            # A backend that must get nothing got a call: no further evidence is needed.
            self._log_evidence = math.inf
        else:
            # One step of the ratio of the two likelihoods: the predictive probability of this
            # backend under the uniform prior (Laplace's rule of succession) over its fair share.
            predicted = (1 + self._counts[backend]) / (len(self._counts) + self._calls)
            self._log_evidence += math.log(predicted / share)
        self._counts[backend] += 1
        self._calls += 1
        if self._raised_at is None and self._log_evidence >= self._threshold:
            self._raised_at = self._calls
        return self._raised_at is not None


class EvenProof:
    """Holds as soon as the calls so far refute that any one backend is hot or cold, at any moment.

    The counterpart of `SkewAlarm`. A backend is *hot* when it takes ``skew`` times its fair share
    or more, each call independently, and *cold* when it takes that many times less. However often
    the proof is looked at, the probability that it ever holds on traffic with such a backend is at
    most ``1 - power``. It can only show that there is none, never that there is one.

    Even traffic takes a fraction of the calls of a number fixed beforehand, for each call counts
    for every backend: half of them for two backends, and a quarter
    for many, where counts are as even as round robin makes them.

    :source: Wald, Sequential Tests of Statistical Hypotheses, 1945, with Ville's inequality (1939)
        for the bound at every look; one ratio of likelihoods for each backend, hot and cold
    """

    def __init__(self, backends: int, *, power: float, skew: float) -> None:
        """Start without evidence.

        :param power: probability that a hot or cold backend is never taken for a fair one
        :param skew: how many times its fair share a hot backend takes; no more than all calls
        :raises ValueError: if a rate is none
        """
        if not 0.0 < power < 1.0:
            raise ValueError(f"power: {power!r} is not between 0 and 1")
        share = fair_shares(backends, None)[0]
        if not skew > 1.0:
            raise ValueError(f"skew: {skew!r} is no skew; it must be above 1")
        self._threshold = -math.log1p(-power)
        self._hot = _steps(share, min(1.0, share * skew))
        self._cold = _steps(share, share / skew)
        self._counts = [0] * backends
        self._lowest, self._at_lowest, self._highest = 0, backends, 0
        self._calls = 0
        self._proven_at: int | None = None

    @property
    def calls(self) -> int:
        """Return the calls observed so far."""
        return self._calls

    @property
    def log_evidence(self) -> float:
        """Return the natural logarithm of the evidence against the likeliest of the skews now."""
        return min(self._against(self._hot, self._highest), self._against(self._cold, self._lowest))

    @property
    def proven_at(self) -> int | None:
        """Return the number of calls at which the proof held first; None: not yet."""
        return self._proven_at

    def observe(self, backend: int) -> bool:
        """Take one more call into account, and return whether the proof holds or has held.

        :param backend: which one answered, from 0
        """
        count = self._counts[backend] = self._counts[backend] + 1
        self._calls += 1
        self._highest = max(self._highest, count)
        if count - 1 == self._lowest:
            self._at_lowest -= 1
            if not self._at_lowest:
                self._lowest += 1
                self._at_lowest = self._counts.count(self._lowest)
        if self._proven_at is None and self.log_evidence >= self._threshold:
            self._proven_at = self._calls
        return self._proven_at is not None

    def _against(self, steps: tuple[float, float], count: int) -> float:
        """Return the evidence against a skew of the backend that answered *count* calls.

        Of all backends the one with the most calls has the least against its being hot, and the one
        with the fewest against its being cold.
        """
        # A step may be infinite: without a call that takes it, it must not count.
        terms = zip((count, self._calls - count), steps, strict=True)
        return math.fsum(calls * step for calls, step in terms if calls)


def _steps(fair: float, skewed: float) -> tuple[float, float]:
    """Return what one call adds to the logarithm of the ratio: a call to the backend, to another.

    :param fair: the backend's share if it is a fair one
    :param skewed: its share if it is not
    """
    others = math.inf if skewed >= 1.0 else math.log1p(-fair) - math.log1p(-skewed)
    return math.log(fair / skewed), others


def convergence_start(passed: Sequence[bool]) -> int | None:
    """Return the first window after which every later one passed too; None if the last did not.

    :param passed: whether the spread of each window was even, in order of time
    """
    start = len(passed)
    while start > 0 and passed[start - 1]:
        start -= 1
    return start if start < len(passed) else None

"""Evidence that may be looked at after every call."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_grpclb.statistics.sizing import fair_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SkewAlarm", "convergence_start"]


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


def convergence_start(passed: Sequence[bool]) -> int | None:
    """Return the first window after which every later one passed too; None if the last did not.

    :param passed: whether the spread of each window was even, in order of time
    """
    start = len(passed)
    while start > 0 and passed[start - 1]:
        start -= 1
    return start if start < len(passed) else None

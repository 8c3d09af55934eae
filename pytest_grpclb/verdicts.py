"""What is said of traffic in the end: plain values as those of `model`, which has them as well."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Alarm", "Outcome", "Rebalance", "Verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """The watch that was kept on a run, to end it as soon as its spread is certain to be skewed."""

    alpha: float
    """Probability that it ever cried out over an even spread."""
    raised_after: int | None = None
    """Answered calls, in the order of sending, after which a skew was certain; None: it never was.

    Calls that were under way by then are in the traffic as well."""


class Outcome(enum.Enum):
    """What the numbers allow one to say."""

    EVEN = "EVEN"
    SKEWED = "SKEWED"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A statement on a spread, with the error rates that it holds at."""

    outcome: Outcome
    counts: Mapping[str, int]
    """Calls by backend UID."""
    calls: int
    """N: answered calls that the verdict is about."""
    backends: int
    """K: backends that should have shared them."""
    alpha: float
    """Probability of SKEWED where the spread is even; 0.0 for the exact round-robin bound."""
    power: float
    detectable_skew: float
    """Smallest multiple of its fair share at which one hot backend is found out with ``power``."""
    needed_calls: int
    test: str
    reason: str
    fair_shares: Mapping[str, float] = field(default_factory=dict)
    """What fraction of the calls each backend should get; who is missing: 1/K."""
    certain_after: int | None = None
    """Calls after which a skew was certain, so that no more were needed; None: it took them all."""

    @property
    def max_over_mean(self) -> float:
        """Return the busiest backend's calls over the mean."""
        return max(self.counts.values()) * len(self.counts) / self.calls if self.calls else 0.0

    @property
    def min_over_mean(self) -> float:
        """Return the idlest backend's calls over the mean."""
        return min(self.counts.values()) * len(self.counts) / self.calls if self.calls else 0.0

    @property
    def jain(self) -> float:
        """Return Jain's fairness index: 1 is even, 1/K is one backend for all.

        :source: Jain, Chiu, Hawe, DEC-TR-301 (1984)
        """
        squares = sum(count * count for count in self.counts.values())
        return self.calls**2 / (len(self.counts) * squares) if squares else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebalance:
    """How traffic moved to a changed set of pods."""

    verdict: Verdict
    """On the calls sent after every pod's change had shown."""
    changed_at_s: float
    """When the change was asked for."""
    deadline_s: float
    """Seconds that the strategy's timers allow from the moment an endpoint changed."""
    first_call_s: Mapping[str, float]
    """By UID of each new pod: seconds from its endpoint's readiness to its first answer."""
    last_call_s: Mapping[str, float]
    """By UID of each removed pod: seconds from its endpoint's removal to the last call sent to it;
    0.0: none was sent after the removal."""
    converged_s: float
    """Seconds from ``changed_at_s`` to the first window after which every later one was even."""
    excused_failures: int = 0
    """Calls that failed while a pod was being killed, and so count against nobody."""

"""The calls after a change of the pods on which their spread is judged: no more than it takes.

Traffic that is live is looked at often, and yet judged on the same calls each time, never retried:
those from a given moment on, in the order of sending, to the first one at which a test decides.
There are two tests, which share what the power leaves. One may find the spread even after any call
and never finds it skewed; the other finds either, once, after a number of calls fixed beforehand.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_grpclb.asserts.spread import count_replaced_connections, longest_connection_s
from pytest_grpclb.model import Mechanism, Outcome, Verdict
from pytest_grpclb.statistics import EvenProof, calls_needed, channel_paths, judge_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb.model import Backend, Traffic
    from pytest_grpclb.statistics import Answer

__all__ = ["Judge"]

__tracebackhide__ = True  # what an error says is for people; these frames are not


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges how calls spread over the pods that a change left."""

    traffic: Traffic
    backends: tuple[Backend, ...]
    """Who should share the calls; at least one."""
    alpha: float
    power: float

    def has_enough(self, calls: Sequence[Answer]) -> bool:
        """Return whether more calls, sent later, would change nothing."""
        return len(calls) >= self._fixed or self._proven(calls) is not None

    def sample(self, calls: Sequence[Answer]) -> Sequence[Answer]:
        """Return those of the calls that are judged: of a finished run, all of them."""
        if self.traffic.ended_at_s is not None:
            return calls
        return calls[: self._proven(calls) or self._fixed]

    def verdict(self, calls: Sequence[Answer]) -> Verdict:
        """Return what the calls of a sample say."""
        counts = Counter(answer.backend for answer in calls)
        if len(self.backends) == 1:
            return self._on_the_only_one(counts)
        verdict = judge_spread(
            counts,
            backends=[backend.uid for backend in self.backends],
            mechanism=self.traffic.mechanism,
            alpha=self.alpha,
            power=self._shared_power,
            skew=self.traffic.skew,
            connections=Counter(path.first_backend for path in channel_paths(calls)),
            replaced_connections=self._replaced_connections(calls),
            names={backend.uid: backend.name for backend in self.traffic.backends},
        )
        proven = self._proven(calls) if verdict.outcome is Outcome.INCONCLUSIVE else None
        if proven is not None:
            low, high = min(verdict.counts.values()), max(verdict.counts.values())
            verdict = replace(
                verdict,
                outcome=Outcome.EVEN,
                detectable_skew=self.traffic.skew,
                needed_calls=proven,
                test="evidence against one hot or cold backend, looked at after every call",
                reason=(
                    f"counts of calls from {low} to {high}; that one backend takes "
                    f"{self.traffic.skew:g} times its share, or so many times less, is refuted"
                ),
            )
        return replace(verdict, power=self.power)

    @property
    def _shared_power(self) -> float:
        return 1.0 - (1.0 - self.power) / 2.0

    def _replaced_connections(self, calls: Sequence[Answer]) -> int:
        if math.isfinite(longest_connection_s(self.traffic.timers)):
            return len(self.backends)  # so few there are for lack of time only
        return count_replaced_connections(self.traffic, calls)

    @property
    def _fixed(self) -> int:
        """How many calls the second test takes."""
        pods, skew = len(self.backends), self.traffic.skew
        if pods == 1:
            return 1
        return calls_needed(pods, alpha=self.alpha, power=self._shared_power, skew=skew)

    def _proven(self, calls: Sequence[Answer]) -> int | None:
        """Return after how many calls the first test finds the spread even; None: it does not."""
        # The calls of one connection are one pick: however many, they are no evidence.
        if len(self.backends) == 1 or self.traffic.mechanism is Mechanism.CONNECTION:
            return None
        index = {backend.uid: number for number, backend in enumerate(self.backends)}
        proof = EvenProof(len(index), power=self._shared_power, skew=self.traffic.skew)
        for answer in calls[: self._fixed]:
            number = index.get(answer.backend)
            if number is None:  # a stranger: what it says of the spread is for the verdict
                return None
            if proof.observe(number):
                return proof.proven_at
        return None

    def _on_the_only_one(self, counts: Counter[str]) -> Verdict:
        (only,) = self.backends
        strays = counts.total() - counts[only.uid]
        return Verdict(
            outcome=Outcome.SKEWED if strays else Outcome.EVEN,
            counts={only.uid: 0, **counts},
            calls=counts.total(),
            backends=1,
            alpha=self.alpha,
            power=self.power,
            detectable_skew=math.inf,
            needed_calls=1,
            test="one pod gets all calls",
            reason=f"{strays} calls were answered by others than {only.name}, the one pod left",
        )

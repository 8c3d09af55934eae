"""Makes traffic for tests: pods and rows written down, or sent on a simulated clock."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.model import (
    UNKNOWN_BACKEND,
    Backend,
    Calls,
    Event,
    EventKind,
    Failure,
    Mechanism,
    Timers,
    Traffic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

TIMERS = Timers(connection_age_s=1.0, min_resolution_interval_s=0.25, connect_s=1.0)


def pods(number: int, *, ready_at_s: float = -1.0) -> tuple[Backend, ...]:
    """Make pods pod-a, pod-b ... with the UIDs a, b ..."""
    return tuple(
        Backend(uid=letter, name=f"pod-{letter}", address=f"10.0.0.{index}", ready_at_s=ready_at_s)
        for index, letter in enumerate("abcdefghijklmnopqrst"[:number], start=1)
    )


@dataclass
class Rows:
    """Columns of calls, one row after the other."""

    identities: list[str] = field(default_factory=list)
    rows: list[tuple[int, int, float, float, int, int]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def answer(
        self, backend: str, *, at_s: float = 0.0, channel: int = 0, latency_s: float = 0.001
    ) -> None:
        """Add a call that *backend* answered."""
        if backend not in self.identities:
            self.identities.append(backend)
        index = self.identities.index(backend)
        self.rows.append((len(self.rows), channel, at_s, at_s + latency_s, index, 0))

    def unnamed(self, *, at_s: float = 0.0) -> None:
        """Add a call that was answered by nobody knows whom."""
        self.rows.append((len(self.rows), 0, at_s, at_s + 0.001, UNKNOWN_BACKEND, 0))

    def fail(self, status: int, details: str = "", *, at_s: float = 0.0) -> None:
        """Add a call that failed a millisecond after it was sent."""
        if details:
            failure = Failure(sequence=len(self.rows), status=status, details=details)
            self.failures.append(failure)
        self.rows.append((len(self.rows), 0, at_s, at_s + 0.001, UNKNOWN_BACKEND, status))

    def calls(self, *, until_s: float = float("inf")) -> Calls:
        """Return the columns of the calls that had ended at a moment, in the order of their end."""
        ended = sorted((row for row in self.rows if row[3] <= until_s), key=lambda row: row[3])
        columns = [list(column) for column in zip(*ended, strict=True)] or [[]] * 6
        sequence, channel, sent_s, done_s, backend, status = columns
        return Calls(
            sequence=sequence,
            channel=channel,
            sent_s=sent_s,
            done_s=done_s,
            backend=backend,
            status=status,
            identities=tuple(self.identities),
        )


def made_traffic(
    rows: Rows | Iterable[str],
    *,
    backends: Sequence[Backend] = pods(3),
    mechanism: Mechanism = Mechanism.RANDOM,
    **more: Any,
) -> Traffic:
    """Make a finished run; *rows* may be the backends of calls that were sent 1 ms apart."""
    if not isinstance(rows, Rows):
        written = Rows()
        for index, backend in enumerate(rows):
            written.answer(backend, at_s=index / 1000)
        rows = written
    calls = rows.calls()
    known: dict[str, Any] = {
        "strategy": "headless",
        "ended_at_s": max(calls.done_s, default=0.0),
        "timers": TIMERS,
        "failures": tuple(rows.failures),
    }
    return Traffic(mechanism=mechanism, calls=calls, backends=tuple(backends), **known | more)


class SimulatedTraffic:
    """Live traffic on a clock that only `wait` moves: calls at a fixed rate, picked by a function.

    :param pick: gives the backend that answers the call sent at a moment, by channel and moment
    """

    def __init__(
        self,
        pick: Callable[[int, float], str | None],
        *,
        rate: float = 400.0,
        latency_s: Callable[[str], float] = lambda _: 0.001,
        channels: int = 1,
        backends: Sequence[Backend],
        events: Sequence[Event],
        **more: Any,
    ) -> None:
        self.pick, self.rate, self.channels = pick, rate, channels
        self.latency_s = latency_s
        self.backends, self.events, self.more = backends, events, more
        self.rows = Rows()
        self.time_s = 0.0
        self.snapshots = 0
        self.silent_from_s = float("inf")

    def now_s(self) -> float:
        return self.time_s

    def wait(self, timeout_s: float) -> None:
        self.time_s += timeout_s
        while (at_s := len(self.rows.rows) / self.rate) < min(self.time_s, self.silent_from_s):
            channel = len(self.rows.rows) % self.channels
            backend = self.pick(channel, at_s)
            if backend is None:
                self.rows.fail(14, "Socket closed", at_s=at_s)
            else:
                latency_s = self.latency_s(backend)
                self.rows.answer(backend, at_s=at_s, channel=channel, latency_s=latency_s)

    def snapshot(self) -> Traffic:
        self.snapshots += 1
        traffic = made_traffic(
            self.rows,
            backends=[each for each in self.backends if (each.ready_at_s or 0.0) <= self.time_s],
            channels=self.channels,
            events=tuple(event for event in self.events if event.at_s <= self.time_s),
            **self.more,
        )
        calls = self.rows.calls(until_s=self.time_s)
        return replace(traffic, calls=calls, ended_at_s=None)


def scale_event(at_s: float, detail: str) -> Event:
    return Event(at_s=at_s, kind=EventKind.SCALE, detail=detail)


def random_pick(seed: int, known: Callable[[float], Sequence[str]]) -> Callable[[int, float], str]:
    """Pick at random among the pods that the client knows at a moment."""
    chance = random.Random(seed)

    def pick(_: int, at_s: float) -> str:
        return chance.choice(known(at_s))

    return pick

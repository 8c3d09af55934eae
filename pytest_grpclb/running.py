"""Traffic that is still being sent: looked at from outside, and ended when it has shown enough."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_grpclb.model import Alarm, CallKind, Mechanism
from pytest_grpclb.statistics import SkewAlarm, round_robin_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_grpclb.driver import DriverRun
    from pytest_grpclb.model import CallTemplate, Event, Traffic

__all__ = ["RunningTraffic", "SkewWatch", "end_when_skewed", "stream_of"]

_LOOK_S = 1.0
"""Reports come every few milliseconds; should none come, the pods are still looked at so often."""


def stream_of(
    call: CallTemplate, *, duration_s: float | None, messages: int | None
) -> CallTemplate:
    """Return *call* with an end as given, or as it has one itself.

    :raises ValueError: if it is unary, or a number is not above 0
    """
    if call.kind is CallKind.UNARY:
        raise ValueError(
            f"call: {call.method!r} is unary; a stream has kind=CallKind.SERVER_STREAMING or "
            "kind=CallKind.BIDIRECTIONAL_STREAMING"
        )
    if duration_s is not None and not (duration_s > 0 and math.isfinite(duration_s)):
        raise ValueError(f"duration_s must be above 0, got {duration_s!r}; None: without an end")
    if messages is not None and messages < 1:
        raise ValueError(f"messages must be 1 or more, got {messages!r}; None: without an end")
    return replace(
        call,
        duration_s=call.duration_s if duration_s is None else duration_s,
        messages=call.messages if messages is None else messages,
    )


class RunningTraffic:
    """Calls that are being sent in the background; gives the traffic so far at any moment."""

    def __init__(
        self, run: DriverRun, freeze: Callable[[DriverRun, float | None], Traffic]
    ) -> None:
        self._run, self._freeze = run, freeze
        self._ended: Traffic | None = None
        self.stopping_at_s: float | None = None
        """When the client was asked to stop; None: it was not."""

    def snapshot(self) -> Traffic:
        """Return the calls reported so far and all that happened meanwhile.

        :raises DriverError: if the run has ended early: no later call will ever be there
        """
        if self._ended is not None:
            return self._ended
        self._run.check()
        return self._freeze(self._run, None)

    @property
    def events(self) -> tuple[Event, ...]:
        """All that happened so far to pods, endpoints, addresses and connections, in order.

        :raises DriverError: as `snapshot`
        """
        return self.snapshot().events

    def wait(self, timeout_s: float) -> None:
        """Return when there is more to see, or *timeout_s* has passed.

        :raises DriverError: if the run has ended early
        """
        self._run.wait_change(timeout_s)
        self._run.check()

    def now_s(self) -> float:
        """Return the moment, on the clock of the traffic."""
        return time.monotonic()

    def stop(self) -> Traffic:
        """Send no further call, wait for those in flight and return all of them; safe to repeat.

        Streams are ended.

        :raises DriverError: if the run ended early or does not end
        """
        if self._ended is None:
            self.stopping_at_s = time.monotonic()
            self._run.stop()
            # Once: what pods do afterwards is none of this traffic's business.
            self._ended = self._freeze(self._run, time.monotonic())
        return self._ended


class SkewWatch:
    """Looks at the calls of a run in the order in which they were sent, as far as all have ended.

    In that order alone the error rate holds: of calls in the order in which they end, the first are
    those of the quicker pods.
    """

    def __init__(
        self, backends: Sequence[str], *, mechanism: Mechanism, channels: int, alpha: float
    ) -> None:
        """Watch over *backends* (UIDs) that are to share the calls evenly.

        :param alpha: probability of an alarm, ever, over an even spread
        :raises ValueError: if there are fewer than two backends
        """
        self._index = {uid: index for index, uid in enumerate(backends)}
        self._alarm = SkewAlarm(len(backends), alpha=alpha)
        self._alpha = alpha
        self._counts = [0] * len(backends)
        # Round robin is no sequence of independent picks: channels that start at the same pod call
        # it as many times in a row as there are channels. What its exact bound allows is no skew.
        self._allowed = round_robin_limit(channels) if mechanism is Mechanism.ROUND_ROBIN else 0
        self._ended: dict[int, str | None] = {}
        self._next = 0
        self._raised_after: int | None = None

    def take(self, rows: Iterable[tuple[int, str | None]]) -> bool:
        """Take in more calls, and return whether a skew is certain.

        :param rows: sequence number, and who answered; None: the call failed or nobody knows
        """
        self._ended.update(rows)
        while self._raised_after is None and self._next in self._ended:
            backend = self._ended.pop(self._next)
            self._next += 1
            index = self._index.get(backend or "")
            # Strangers and failed calls need no watch: one of them decides the verdict by itself.
            if index is None:
                continue
            self._counts[index] += 1
            alarmed = self._alarm.observe(index)
            if alarmed and max(self._counts) - min(self._counts) > self._allowed:
                self._raised_after = self._alarm.calls
        return self._raised_after is not None

    def alarm(self) -> Alarm:
        """Return what there is to say."""
        return Alarm(alpha=self._alpha, raised_after=self._raised_after)


def end_when_skewed(run: DriverRun, watch: SkewWatch, *, unchanged: Callable[[], bool]) -> Alarm:
    """Wait until *run* has sent all its calls, or end it as soon as its skew is certain.

    :param unchanged: whether the pods are still those that *watch* is over; the calls of others
        are no evidence
    :raises DriverError: if the run ended early by itself
    """
    seen, finished = 0, False
    while not finished:
        finished = run.finished
        rows = run.answered(seen)
        seen += len(rows)
        if not unchanged():
            run.wait_finished()
            return Alarm(alpha=watch.alarm().alpha)
        if watch.take(rows):
            run.stop()
            break
        if not finished:
            run.wait_change(_LOOK_S)
    run.check()
    return watch.alarm()

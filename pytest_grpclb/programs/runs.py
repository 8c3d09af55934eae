"""Runs: plans that are carried out, and that may outlive the stream to which they are told."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs import channels
from pytest_grpclb.programs.journal import Journal
from pytest_grpclb.programs.load import Caller, Load
from pytest_grpclb.programs.streams import StreamCaller

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.programs.attribution import Attributor

_LOG = logging.getLogger(__name__)

# For how long a run goes on when nobody hears of it. Longer than the test process tries to come
# back: what it finds then is the run, or a driver that never had it.
UNHEARD_S = 90.0

# How often the channels' accounts are looked at, as long as that takes no more than a fiftieth of
# the event loop's time: the traces that are read grow with every connection.
_REPORT_INTERVAL_S = 0.1
_REPORT_SHARE = 50


class Run:
    """One plan, from its start to its last response; made on the event loop."""

    def __init__(self, plan: driver_pb2.Plan, *, over: Callable[[Run], None]) -> None:
        """Begin to carry out *plan*.

        :param over: called when nobody can hear of the run any more
        """
        self.name = plan.run
        self._plan, self._over = plan, over
        self._journal = Journal()
        self._load: Load | None = None
        self._stops: list[str] = []
        self._listeners = 0
        self._survives = False
        self._dropping: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._carry_out())

    @property
    def responses(self) -> int:
        """How many there are so far."""
        return len(self._journal)

    def stop(self, error: str = "") -> None:
        """Send no further call; what is in flight still finishes and is told.

        :param error: why, if the run did not want it so
        """
        if self._load is None:
            self._stops.append(error)
        else:
            self._load.stop(error)

    def drop(self) -> None:
        """End at once; safe to repeat."""
        if self._dropping is not None:
            self._dropping.cancel()
        self._task.cancel()
        self._over(self)

    def take(self, responses: int) -> None:
        """Take note that so many responses have arrived, in all."""
        # Who has taken the first one counts on the run, and comes back to it.
        self._survives = bool(self.name)
        self._journal.forget(responses)

    async def tell(self, context: Any, taken: int) -> None:
        """Write the responses after the first *taken* to *context*, to the end.

        Without a word of the end where somebody else is told from now on.

        :raises LookupError: as `Journal.follow`
        """
        self._listeners += 1
        listener = self._listeners
        if self._dropping is not None:
            self._dropping.cancel()
            self._dropping = None
        try:
            async for response in self._journal.follow(taken):
                await context.write(response)
        finally:
            if listener == self._listeners:
                if self._survives:
                    loop = asyncio.get_running_loop()
                    self._dropping = loop.call_later(UNHEARD_S, self.drop)
                else:
                    self.drop()

    async def _carry_out(self) -> None:
        plan, error = self._plan, None
        _LOG.info("run: %d calls to %s", plan.calls, plan.target)
        try:
            async with channels.opened(plan) as opened:
                kind = StreamCaller if plan.call.HasField("stream") else Caller
                caller = kind([each.channel for each in opened], plan.call)
                self._load = load = Load(plan, caller)
                for why in self._stops:
                    load.stop(why)
                await _send(plan, load, opened, _Teller(self._journal, caller.attributor))
            _LOG.info("run: %d calls ended", load.recorder.calls)
        except Exception as unexpected:  # noqa: BLE001  # whoever listens is told of it
            error = unexpected
        finally:
            self._journal.end(error)


class _Teller:
    """What a run tells whoever started it."""

    def __init__(self, journal: Journal, attributor: Attributor) -> None:
        self._journal, self._attributor = journal, attributor
        self._told: tuple[str, tuple[str, ...]] | None = None

    def write(self, **what: Any) -> None:
        self._journal.write(driver_pb2.RunResponse(**what))

    def tell_calls(self, load: Load) -> None:
        for columns in load.recorder.take():
            self.write(columns=columns)

    def tell_attribution(self) -> None:
        """Tell how it is known who answers, where that is news."""
        attributor = self._attributor
        # Why other ways failed is of interest only as long as none has been found.
        known = (attributor.way, () if attributor.way else attributor.tried)
        if known != self._told:
            self._told = known
            way, tried = known
            self.write(attributed=driver_pb2.Attributed(way=way, tried=tried))


async def _send(
    plan: driver_pb2.Plan, load: Load, opened: list[channels.Opened], teller: _Teller
) -> None:
    warm_up = await load.warm_up()
    started = driver_pb2.Started(
        clock_s=time.monotonic(),
        warm_up_calls=warm_up.calls,
        warm_up_s=warm_up.duration_s,
        backends_seen=warm_up.backends_seen,
        warm_up_error=warm_up.error,
    )
    # Before the first counted call, so that no change of a channel during counting is missed.
    report = channels.report(opened)
    teller.write(started=started)
    teller.tell_attribution()
    teller.write(report=report)
    async with asyncio.TaskGroup() as tasks:
        counting = tasks.create_task(load.run())
        next_report_s = 0.0
        while not counting.done():
            await asyncio.wait({counting}, timeout=plan.report_interval_s)
            teller.tell_calls(load)
            if (now_s := time.monotonic()) >= next_report_s:
                previous, report = report, channels.report(opened)
                took_s = time.monotonic() - now_s
                next_report_s = now_s + max(_REPORT_INTERVAL_S, _REPORT_SHARE * took_s)
                if _without_counts(report) != _without_counts(previous):
                    teller.write(report=report)
    teller.tell_calls(load)
    teller.write(report=channels.report(opened))
    finished = driver_pb2.Finished(calls=load.recorder.calls, error=load.error)
    teller.tell_attribution()
    teller.write(finished=finished)


def _without_counts(report: driver_pb2.ChannelReport) -> driver_pb2.ChannelReport:
    """Return what of *report* is news: not the time, not that calls were sent."""
    news = driver_pb2.ChannelReport()
    news.CopyFrom(report)
    news.ClearField("clock_s")
    for channel in news.channels:
        for subchannel in channel.subchannels:
            subchannel.ClearField("calls_started")
    return news

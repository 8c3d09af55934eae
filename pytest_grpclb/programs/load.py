"""The calls of one run: warm-up, then a closed or an open loop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb.programs.attribution import Attributor, ways_of
from pytest_grpclb.programs.columns import Recorder
from pytest_grpclb.programs.streams import StreamCaller

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_grpclb._pb import driver_pb2

# Between a failed warm-up call and the next: a server that refuses at once is not hammered.
_WARM_UP_PAUSE_S = 0.02

# Between a failed stream and the one in its place: a client that is as eager as that is no attack.
_REOPEN_PAUSE_S = 0.1
# Answers to wait for somebody to be named: of the pods that are ready, one would be among them.
_UNNAMED_ANSWERS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """What was seen before counting began."""

    calls: int = 0
    duration_s: float = 0.0
    backends_seen: tuple[int, ...]
    """Distinct backends, by channel."""
    error: str = ""
    """Code and details of the last failed call."""


class Caller:
    """Sends single calls: raw bytes to any unary method."""

    def __init__(self, channels: Sequence[Any], call: driver_pb2.Call) -> None:
        self._methods = [channel.unary_unary(call.method) for channel in channels]
        self._requests = tuple(call.requests) or (call.request,)
        self._timeout_s = call.timeout_s
        self._metadata = tuple((entry.key, entry.value) for entry in call.metadata) or None
        self._wait_for_ready = call.wait_for_ready or None
        self.attributor = Attributor(ways_of(call))
        self._answers = frozenset((0, *call.allowed_status))

    def answers(self, code: grpc.StatusCode) -> bool:
        """Tell whether a call that ended so was answered by the service."""
        return code.value[0] in self._answers

    async def __call__(
        self, channel: int, sequence: int, *, at_most_s: float = float("inf")
    ) -> tuple[str | None, grpc.StatusCode, str]:
        """Return who answered a call on *channel*, its status code, and the details of a failure.

        :param sequence: its number, which chooses its request
        :param at_most_s: bounds the call's own timeout
        """
        call = self._methods[channel](
            self._requests[sequence % len(self._requests)],
            timeout=min(self._timeout_s, at_most_s),
            metadata=self._metadata,
            wait_for_ready=self._wait_for_ready,
        )
        try:
            code = await call.code()
            ok = code is grpc.StatusCode.OK
            backend = await self.attributor.name(call, answered=ok)
            details = "" if ok else await call.details()
        except asyncio.CancelledError:
            call.cancel()
            raise
        return backend, code, details


class Load:
    """Sends the calls of one plan and has those that count recorded."""

    def __init__(self, plan: driver_pb2.Plan, caller: Caller | StreamCaller) -> None:
        self.recorder = Recorder()
        self.error = ""
        self._plan = plan
        self._call = caller
        self._numbers = iter(range(plan.calls)) if plan.calls else itertools.count()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._interruptible: list[asyncio.Task[None]] = []

    def stop(self, error: str = "") -> None:
        """Send no further call, and end streams; what is in flight still finishes and is recorded.

        :param error: why, if the run did not want it so
        """
        self.error = self.error or error
        self._stopping = True
        self._stopped.set()
        for task in self._interruptible:
            task.cancel()

    async def warm_up(self) -> WarmUp:
        """Send calls that do not count until every channel has seen enough backends, or time is up.

        None is in flight when this returns.
        """
        wanted, timeout_s = self._plan.warm_up.backends, self._plan.warm_up.timeout_s
        started_s = time.monotonic()
        seen: list[set[str]] = [set() for _ in range(self._plan.channels)]
        calls = 0
        error = ""

        async def warm(channel: int) -> None:
            nonlocal calls, error
            unnamed = 0
            while len(seen[channel]) < wanted:
                left_s = started_s + timeout_s - time.monotonic()
                if left_s <= 0:
                    return
                calls += 1
                backend, code, details = await self._call(channel, calls - 1, at_most_s=left_s)
                if not self._call.answers(code):
                    # The last call is cut short by the end of warm-up: what others said tells more.
                    if not error or code is not grpc.StatusCode.DEADLINE_EXCEEDED:
                        error = f"{code.name}: {details}"
                    await asyncio.sleep(_WARM_UP_PAUSE_S)
                elif backend is not None:
                    seen[channel].add(backend)
                elif not self._call.attributor.way and (unnamed := unnamed + 1) >= _UNNAMED_ANSWERS:
                    return  # nothing will ever name anybody: the verdict will say what was tried

        if not self._stopping:
            async with asyncio.TaskGroup() as tasks:
                self._interruptible = [
                    tasks.create_task(warm(channel)) for channel in range(self._plan.channels)
                ]
        return WarmUp(
            calls=calls,
            duration_s=time.monotonic() - started_s,
            backends_seen=tuple(map(len, seen)),
            error=error,
        )

    async def run(self) -> None:
        """Send the calls that count, until there are enough or `stop`; all have ended then."""
        if self._plan.WhichOneof("load") == "closed":
            await self._closed()
        else:
            await self._open()

    async def _closed(self) -> None:
        channels, concurrency = self._plan.channels, self._plan.closed.concurrency

        async def work(first: int) -> None:
            # One channel each; several in turn where there are fewer workers than channels.
            turn = itertools.cycle(range(first % channels, channels, concurrency))
            while not self._stopping and (sequence := next(self._numbers, None)) is not None:
                await self._counted(sequence, next(turn))

        async with asyncio.TaskGroup() as tasks:
            for worker in range(concurrency):
                tasks.create_task(work(worker))

    async def _open(self) -> None:
        rate_per_s, channels = self._plan.open.rate_per_s, self._plan.channels
        slots = asyncio.Semaphore(self._plan.open.max_in_flight)

        async def send(sequence: int) -> None:
            try:
                await self._counted(sequence, sequence % channels)
            finally:
                slots.release()

        async def pace(tasks: asyncio.TaskGroup) -> None:
            started_s = time.monotonic()
            # A late call does not move the ones after it: the schedule is fixed by the first.
            for sequence in self._numbers:
                delay_s = started_s + sequence / rate_per_s - time.monotonic()
                if delay_s > 0:
                    await asyncio.sleep(delay_s)
                await slots.acquire()
                tasks.create_task(send(sequence))

        if not self._stopping:
            async with asyncio.TaskGroup() as tasks:
                self._interruptible = [tasks.create_task(pace(tasks))]

    async def _counted(self, sequence: int, channel: int) -> None:
        sent_s = time.monotonic()
        if isinstance(self._call, StreamCaller):
            await self._counted_stream(self._call, sequence, channel, sent_s)
            return
        backend, code, details = await self._call(channel, sequence)
        self.recorder.record(
            sequence,
            channel,
            sent_s=sent_s,
            done_s=time.monotonic(),
            backend=backend,
            status=code.value[0],
            details=details,
        )

    async def _counted_stream(
        self, caller: StreamCaller, sequence: int, channel: int, sent_s: float
    ) -> None:
        def opened(backend: str | None) -> None:
            self.recorder.record_opened(
                sequence, channel, sent_s=sent_s, opened_s=time.monotonic(), backend=backend
            )

        # The first streams end one after the other: else all of them would end at once, and nobody
        # would be open then. Those in their places take turns from there on.
        together = self._plan.closed.concurrency
        part = min(1.0, (sequence + 1) / together) if together else 1.0
        ended = await caller.follow(channel, opened, self._stopped, part=part)
        self.recorder.record(
            sequence,
            channel,
            sent_s=sent_s,
            done_s=time.monotonic(),
            backend=ended.backend,
            status=ended.code.value[0],
            details=ended.details,
            messages=(ended.sent, ended.received),
        )
        if ended.code is not grpc.StatusCode.OK:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), _REOPEN_PAUSE_S)

"""Calls that stay open: one stream from its first answer to its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb.programs.attribution import Attributor, ways_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_grpclb._pb import driver_pb2

_BROKEN = (grpc.RpcError, grpc.aio.InternalError, asyncio.InvalidStateError)
"""Raised by reads and writes of a stream that has ended; its status says why."""
_TRAILERS_S = 0.1
"""For the status of a stream that has been refused, which came with its empty metadata."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of a stream."""

    backend: str | None
    code: grpc.StatusCode
    details: str = ""
    sent: int = 0
    received: int = 0


class StreamCaller:
    """Opens streams: raw bytes to any server-streaming or bidirectional method."""

    def __init__(self, channels: Sequence[Any], call: driver_pb2.Call) -> None:
        self._call, self.plan = call, call.stream
        self._methods = [
            channel.stream_stream(call.method)
            if call.stream.bidirectional
            else channel.unary_stream(call.method)
            for channel in channels
        ]
        self._metadata = tuple((entry.key, entry.value) for entry in call.metadata) or None
        self.attributor = Attributor(ways_of(call))

    def answers(self, code: grpc.StatusCode) -> bool:
        """Tell whether a stream that ended so was ended well."""
        return code is grpc.StatusCode.OK

    async def __call__(
        self,
        channel: int,
        sequence: int,  # noqa: ARG002 - every stream sends the same request
        *,
        at_most_s: float = float("inf"),
    ) -> tuple[str | None, grpc.StatusCode, str]:
        """Open a stream only to see who answers: return that, its status, and a failure's details.

        :param at_most_s: bounds the time until it is answered
        """
        answered = asyncio.Event()
        ended = await self.follow(channel, lambda _: answered.set(), answered, at_most_s=at_most_s)
        return ended.backend, ended.code, ended.details

    async def follow(
        self,
        channel: int,
        opened: Callable[[str | None], None],
        stopped: asyncio.Event,
        *,
        part: float = 1.0,
        at_most_s: float = float("inf"),
    ) -> Ended:
        """Keep a stream open on *channel* until its end by plan, the server's end, or *stopped*.

        :param opened: told who answers, once somebody does
        :param part: of the planned duration, above 0
        :param at_most_s: bounds the waits for the server, beside the call's own timeout
        """
        wait_s = min(self._call.timeout_s, at_most_s)
        arguments = () if self.plan.bidirectional else (self._call.request,)
        call = self._methods[channel](
            *arguments, metadata=self._metadata, wait_for_ready=self._call.wait_for_ready or None
        )
        duration_s = part * self.plan.duration_s or float("inf")
        stream = _Stream(call, self._call, self.attributor, wait_s=wait_s, duration_s=duration_s)
        try:
            return await stream.live(opened, stopped)
        finally:
            call.cancel()
            await stream.close()


class _Stream:
    def __init__(
        self,
        call: Any,
        plan: driver_pb2.Call,
        attributor: Attributor,
        *,
        wait_s: float,
        duration_s: float,
    ) -> None:
        self._call, self._plan, self._attributor = call, plan, attributor
        self._wait_s, self._duration_s = wait_s, duration_s
        self._backend: str | None = None
        self._answered = False
        self._sent = self._received = 0
        self._message = asyncio.Event()
        self._enough = asyncio.Event()
        self._closing = asyncio.Event()
        self._code = asyncio.create_task(call.code())
        self._tasks: list[asyncio.Task[Any]] = [self._code]
        self._writing = self._start(self._write()) if plan.stream.bidirectional else None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def live(self, opened: Callable[[str | None], None], stopped: asyncio.Event) -> Ended:
        metadata = self._start(self._call.initial_metadata())
        stopping = self._start(stopped.wait())
        await self._first_of(metadata, stopping, timeout_s=self._wait_s)
        if metadata.done():
            self._start(self._read())
        if (
            metadata.done()
            and not await self._has_failed()
            and not await self._is_refused(metadata)
        ):
            self._answered = True
            self._backend = await self._attributor.name(self._call, answered=True, ended=False)
            opened(self._backend)
            enough = self._start(self._enough.wait())
            await self._first_of(enough, stopping, timeout_s=self._duration_s)
        elif not stopped.is_set() and not self._code.done():
            return self._ended(
                grpc.StatusCode.DEADLINE_EXCEEDED, f"no answer within {self._wait_s:g} s"
            )
        return await self._end()

    async def _end(self) -> Ended:
        """End the stream as planned, unless it has ended by itself, and return its status."""
        by_client = False
        if not self._code.done() and self._writing is not None and self._answered:
            await self._half_close(self._writing)
            if not self._code.done():
                return self._ended(
                    grpc.StatusCode.DEADLINE_EXCEEDED,
                    f"the server did not end the stream within {self._wait_s:g} s of the client's "
                    "half-close",
                )
        elif not self._code.done():
            by_client = self._call.cancel()
        code = await self._code
        if by_client and code is grpc.StatusCode.CANCELLED:
            return self._ended(grpc.StatusCode.OK, "")
        if self._backend is None:
            self._backend = await self._attributor.name(self._call, answered=False)
        details = "" if code is grpc.StatusCode.OK else await self._call.details()
        return self._ended(code, details)

    async def _half_close(self, writing: asyncio.Task[Any]) -> None:
        """Send no more, and wait for the server's end."""
        until_s = time.monotonic() + self._wait_s
        # What is being written goes before the half-close: it is waited for.
        self._closing.set()
        await self._first_of(writing, timeout_s=self._wait_s)
        if writing.done():
            with contextlib.suppress(*_BROKEN):
                await self._call.done_writing()
        await self._first_of(timeout_s=max(0.0, until_s - time.monotonic()))

    def _ended(self, code: grpc.StatusCode, details: str) -> Ended:
        return Ended(
            backend=self._backend,
            code=code,
            details=details,
            sent=self._sent,
            received=self._received,
        )

    async def _has_failed(self) -> bool:
        """Return whether the stream has ended with a status other than OK: nobody answered it."""
        return self._code.done() and await self._code is not grpc.StatusCode.OK

    async def _is_refused(self, metadata: asyncio.Task[Any]) -> bool:
        """Return whether a stream without metadata has ended at once with a status other than OK.

        A server that refuses it sends trailers alone. gRPC tells of them as of empty metadata, and
        of the status a moment later; a message shows that the stream is open.

        :source: gRPC, doc/PROTOCOL-HTTP2.md, "Trailers-Only"
        """
        if metadata.cancelled() or metadata.exception() is not None or metadata.result():
            return False
        message = self._start(self._message.wait())
        await self._first_of(message, timeout_s=_TRAILERS_S)
        return await self._has_failed()

    async def _first_of(self, *tasks: asyncio.Task[Any], timeout_s: float) -> None:
        """Wait until one of *tasks* is done, the stream has ended, or the time has passed."""
        timeout = None if timeout_s == float("inf") else timeout_s
        await asyncio.wait(
            {*tasks, self._code}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )

    async def _write(self) -> None:
        stream = self._plan.stream
        with contextlib.suppress(*_BROKEN):
            while not self._closing.is_set():
                await self._send(self._plan.request)
                self._sent += 1
                if self._sent == stream.messages:
                    self._enough.set()
                    return
                if not stream.interval_s:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), stream.interval_s)

    async def _send(self, message: bytes) -> None:
        """Write *message*, and leave the stream's status to the server if that has ended it.

        The call's own ``write`` puts INTERNAL in its place (https://github.com/grpc/grpc/issues/36066).
        """
        await self._call.wait_for_connection()
        await self._call._cython_call.send_serialized_message(message)

    async def _read(self) -> None:
        stream = self._plan.stream
        with contextlib.suppress(*_BROKEN):
            while await self._call.read() is not grpc.aio.EOF:
                self._received += 1
                self._message.set()
                if not stream.bidirectional and self._received == stream.messages:
                    self._enough.set()

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

"""Streams that a server refuses, by a call that tells of it step by step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc

from pytest_grpclb._pb import driver_pb2
from pytest_grpclb.programs.streams import StreamCaller

from .conftest import call

if TYPE_CHECKING:
    from collections.abc import Callable


class Refused:
    """A call whose empty metadata come before its status, as gRPC may tell of trailers alone."""

    def __init__(self, *, messages: int = 0) -> None:
        self._status: asyncio.Future[grpc.StatusCode] = asyncio.get_running_loop().create_future()
        self._messages = messages
        self._ends = asyncio.get_running_loop().call_later(
            0.01, self._end, grpc.StatusCode.UNIMPLEMENTED
        )

    def _end(self, status: grpc.StatusCode) -> None:
        if not self._status.done():
            self._status.set_result(status)

    async def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> Any:
        return grpc.aio.Metadata()

    async def code(self) -> grpc.StatusCode:
        return await asyncio.shield(self._status)

    async def details(self) -> str:
        return "Method not found!"

    async def read(self) -> Any:
        if self._messages:
            self._messages -= 1
            return b""
        await asyncio.shield(self._status)
        return grpc.aio.EOF

    def peer(self) -> str:
        return ""

    def cancel(self) -> bool:
        self._ends.cancel()
        if self._status.done():
            return False
        self._status.set_result(grpc.StatusCode.CANCELLED)
        return True


def opened(make: Callable[[], Any]) -> tuple[str | None, grpc.StatusCode, str]:
    """Open a stream only to see who answers, as a warm-up does."""

    class Channel:
        def unary_stream(self, _method: str) -> Callable[..., Any]:
            return lambda *_arguments, **_options: make()

    async def main() -> tuple[str | None, grpc.StatusCode, str]:
        plan = call(method="/helloworld.Greeter/Wave", stream=driver_pb2.Stream())
        return await StreamCaller([Channel()], plan)(0, 0)

    return asyncio.run(main())


def test_a_stream_that_is_refused_has_not_been_answered() -> None:
    assert opened(Refused) == (None, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def test_a_message_shows_that_a_stream_is_open() -> None:
    _, code, _ = opened(lambda: Refused(messages=1))
    assert code is grpc.StatusCode.OK  # it was ended by the client, who had seen enough

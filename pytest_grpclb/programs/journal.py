"""What a run has told, kept until it has arrived."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_grpclb._pb import driver_pb2


class Journal:
    """The responses of one run, in order, for one reader at a time."""

    def __init__(self) -> None:
        self._kept: list[driver_pb2.RunResponse] = []
        self._forgotten = 0
        self._changed = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._readers = 0

    def __len__(self) -> int:
        """Return how many responses there were so far, whether or not they are still kept."""
        return self._forgotten + len(self._kept)

    def write(self, response: driver_pb2.RunResponse) -> None:
        """Append a response."""
        self._kept.append(response)
        self._changed.set()

    def end(self, error: Exception | None = None) -> None:
        """Say that nothing will follow: as it should be, or for an *error*, which readers get."""
        self._ended, self._error = True, error
        self._changed.set()

    def forget(self, taken: int) -> None:
        """Drop the first *taken* responses of all: nobody will ask for them again."""
        dropped = min(max(0, taken - self._forgotten), len(self._kept))
        del self._kept[:dropped]
        self._forgotten += dropped

    async def follow(self, taken: int) -> AsyncIterator[driver_pb2.RunResponse]:
        """Yield the responses after the first *taken*, as they come.

        It ends with the run, or when somebody else follows.

        :raises LookupError: if there were no so many, or some of the rest were dropped
        """
        self._readers += 1
        number, reader = taken, self._readers
        self._changed.set()  # who has followed so far shall notice
        while reader == self._readers:
            if not self._forgotten <= number <= len(self):
                raise LookupError(
                    f"response {number} is not there, only {self._forgotten} to {len(self)}"
                )
            if number < len(self):
                yield self._kept[number - self._forgotten]
                number += 1
            elif self._ended:
                if self._error is not None:
                    raise self._error
                return
            else:
                self._changed.clear()
                await self._changed.wait()

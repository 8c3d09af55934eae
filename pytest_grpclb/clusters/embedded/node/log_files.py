"""Reads what containers have written, for the API.

Containers write to files straight away, nobody copies their output, so that nothing slows them down
and the last words of one that crashed are there. So nobody knows when a line was written either.

:source: Kubernetes documentation, "Logging Architecture"; ``kubectl logs``
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, BinaryIO

from pytest_grpclb.clusters.embedded.store.status import BadRequestError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.api.streams import LogOptions
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["LogFiles"]

_PIECE = 64 * 1024
_LOOK_AGAIN_S = 0.05
"""How far behind somebody who follows a log may be."""


class LogFiles:
    """The logs of all pods below one directory."""

    def __init__(self, store: Store, pods: Path) -> None:
        self._store, self._pods = store, pods

    def read(self, pod: Object, options: LogOptions) -> AsyncGenerator[bytes, None]:
        """Return the part of a container's log that is asked for, in pieces.

        :raises BadRequestError: if it asks for the times of lines
        """
        if options.timestamps or options.since_s is not None:
            raise BadRequestError(
                "the embedded cluster does not know when a line was written: leave out timestamps "
                "and since, or use --grpclb-cluster=kind"
            )
        return self._pieces(pod, options)

    async def _pieces(self, pod: Object, options: LogOptions) -> AsyncGenerator[bytes, None]:
        entry = _entry(pod, options.container)
        runs = entry["restartCount"] if entry else 0
        directory = self._pods / pod["metadata"]["uid"] / "logs" / options.container
        run = _last_run(directory, runs - 1 if options.previous else runs)
        if run is None:
            return
        left = options.limit_bytes
        with (directory / f"{run}.log").open("rb") as log:
            if options.tail_lines is not None:
                log.seek(_tail_position(log, options.tail_lines))
            while left is None or left > 0:
                ended = not options.follow or self._has_ended(pod, options.container, run)
                piece = log.read(_PIECE if left is None else min(left, _PIECE))
                if piece:
                    left = None if left is None else left - len(piece)
                    yield piece
                elif ended:
                    return
                else:
                    await asyncio.sleep(_LOOK_AGAIN_S)

    def _has_ended(self, pod: Object, container: str, run: int) -> bool:
        """Tell whether a container's *run*-th process has ended."""
        metadata = pod["metadata"]
        now = self._store.find("pods", metadata["name"], metadata["namespace"])
        if now is None or now["metadata"]["uid"] != metadata["uid"]:
            return True
        entry = _entry(now, container)
        return entry is None or entry["restartCount"] != run or "running" not in entry["state"]


def _entry(pod: Object, container: str) -> Object | None:
    status = pod.get("status", {})
    entries = (*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ()))
    return next((each for each in entries if each["name"] == container), None)


def _last_run(directory: Path, most: int) -> int | None:
    """Return the last of a container's lives that wrote a log: one that waits has none yet."""
    return next((run for run in range(most, -1, -1) if (directory / f"{run}.log").exists()), None)


def _tail_position(log: BinaryIO, lines: int) -> int:
    """Return where the last *lines* lines of a file begin."""
    end = position = log.seek(0, os.SEEK_END)
    wanted = lines
    while position > 0:
        start = max(position - _PIECE, 0)
        log.seek(start)
        block = log.read(position - start)
        at = len(block)
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            if start + at == end - 1:
                continue  # the newline that ends the last line begins no further one
            wanted -= 1
            if wanted < 0:
                break
            if wanted == 0:
                return start + at + 1
        position = start
    return end if lines == 0 else 0

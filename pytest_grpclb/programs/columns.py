"""Ended calls and opened streams, kept as rows until they are told in columns."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_grpclb._pb import driver_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILURES_TOLD = 1000
"""Details told of each status code. Who excuses a failed call goes by what was said of it and needs
that of every one; where thousands fail, there is nothing to excuse."""

UNNAMED = -1
"""In the backend column: nothing named who answered."""

# About 40 bytes a row: well below the 4 MB that a client receives by default.
_ROWS = 20_000

_COLUMNS = ("sequence", "channel", "sent_s", "done_s", "backend", "status")


class Recorder:
    """Takes down every counted call."""

    def __init__(self) -> None:
        self.calls = 0
        self._rows: list[tuple[int, int, float, float, int, int]] = []
        self._messages: list[tuple[int, int]] = []
        self._opened: list[tuple[int, int, float, float, int]] = []
        self._backends: dict[str, int] = {}
        self._new_identities: list[str] = []
        self._new_failures: list[driver_pb2.Failure] = []
        self._failures: Counter[int] = Counter()

    def record(
        self,
        sequence: int,
        channel: int,
        *,
        sent_s: float,
        done_s: float,
        backend: str | None,
        status: int,
        details: str,
        messages: tuple[int, int] | None = None,
    ) -> None:
        """Take down one call that has ended.

        :param backend: what the backend called itself; None: nothing named it
        :param status: gRPC status code
        :param details: what came with a status other than OK
        :param messages: of a stream: how many were sent and received
        """
        self.calls += 1
        index = UNNAMED if backend is None else self._index(backend)
        self._rows.append((sequence, channel, sent_s, done_s, index, status))
        if messages is not None:
            self._messages.append(messages)
        if status:
            self._failures[status] += 1
            if self._failures[status] <= FAILURES_TOLD:
                self._new_failures.append(
                    driver_pb2.Failure(sequence=sequence, status=status, details=details)
                )

    def record_opened(
        self, sequence: int, channel: int, *, sent_s: float, opened_s: float, backend: str | None
    ) -> None:
        """Take down a stream that was answered and goes on."""
        index = UNNAMED if backend is None else self._index(backend)
        self._opened.append((sequence, channel, sent_s, opened_s, index))

    def _index(self, backend: str) -> int:
        index = self._backends.get(backend)
        if index is None:
            index = self._backends[backend] = len(self._backends)
            self._new_identities.append(backend)
        return index

    def take(self) -> list[driver_pb2.Columns]:
        """Return what has ended or opened since the last time, in messages of a size to receive."""
        rows, self._rows = self._rows, []
        counted, self._messages = self._messages, []
        opened, self._opened = self._opened, []
        messages = []
        for start in range(0, max(len(rows), len(opened)), _ROWS):
            part = slice(start, start + _ROWS)
            message = driver_pb2.Columns(
                identities=self._new_identities, failures=self._new_failures
            )
            self._new_identities, self._new_failures = [], []
            _extend(message, rows[part], _COLUMNS)
            _extend(message, counted[part], ("messages_sent", "messages_received"))
            _extend(
                message.opened,
                opened[part],
                ("sequence", "channel", "sent_s", "opened_s", "backend"),
            )
            messages.append(message)
        return messages


def _extend(message: Any, rows: Sequence[tuple[float, ...]], columns: Sequence[str]) -> None:
    for column, values in zip(columns, zip(*rows, strict=True), strict=False):
        getattr(message, column).extend(values)

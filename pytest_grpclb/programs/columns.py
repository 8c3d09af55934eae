"""Ended calls, kept as rows until they are told in columns."""

from __future__ import annotations

from collections import Counter

from pytest_grpclb._pb import driver_pb2

FAILURES_TOLD = 20
"""Details told of each status code: enough to see a pattern, few enough to read."""

UNNAMED = -1
"""In the backend column: nothing named who answered."""

# About 40 bytes a row: well below the 4 MB that a client receives by default.
_ROWS = 20_000


class Recorder:
    """Takes down every counted call."""

    def __init__(self) -> None:
        self.calls = 0
        self._rows: list[tuple[int, int, float, float, int, int]] = []
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
    ) -> None:
        """Take down one call that has ended.

        :param backend: what the backend called itself; None: nothing named it
        :param status: gRPC status code
        :param details: what came with a status other than OK
        """
        self.calls += 1
        index = UNNAMED if backend is None else self._index(backend)
        self._rows.append((sequence, channel, sent_s, done_s, index, status))
        if status:
            self._failures[status] += 1
            if self._failures[status] <= FAILURES_TOLD:
                self._new_failures.append(
                    driver_pb2.Failure(sequence=sequence, status=status, details=details)
                )

    def _index(self, backend: str) -> int:
        index = self._backends.get(backend)
        if index is None:
            index = self._backends[backend] = len(self._backends)
            self._new_identities.append(backend)
        return index

    def take(self) -> list[driver_pb2.Columns]:
        """Return what has ended since the last time, in messages that a client can receive."""
        rows, self._rows = self._rows, []
        messages = []
        for start in range(0, len(rows), _ROWS):
            sequence, channel, sent_s, done_s, backend, status = zip(
                *rows[start : start + _ROWS], strict=True
            )
            messages.append(
                driver_pb2.Columns(
                    sequence=sequence,
                    channel=channel,
                    sent_s=sent_s,
                    done_s=done_s,
                    backend=backend,
                    status=status,
                    identities=self._new_identities,
                    failures=self._new_failures,
                )
            )
            self._new_identities, self._new_failures = [], []
        return messages

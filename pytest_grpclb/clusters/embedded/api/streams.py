"""Answers that go on: watches and logs. No I/O: something else asks them for bytes and sends those.

:source: Kubernetes documentation, "API concepts", "Efficient detection of changes", "Watch
    bookmarks", "Streaming lists"
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.api.media import encode
from pytest_grpclb.clusters.embedded.store.status import GoneError
from pytest_grpclb.clusters.embedded.store.watch import Event, Object, Watch

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.kinds import Kind
    from pytest_grpclb.clusters.embedded.store.selectors import Test

__all__ = ["LogOptions", "LogReader", "LogResponse", "WatchOptions", "WatchResponse"]

BOOKMARK_EVERY_S = 60.0
"""As Kubernetes: often enough that a client that resumes does not fall out of the history."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """Which part of a container's log is wanted."""

    container: str
    follow: bool = False
    previous: bool = False
    """Of the container before the last restart."""
    timestamps: bool = False
    tail_lines: int | None = None
    limit_bytes: int | None = None
    since_s: float | None = None
    """Nothing older than this."""


LogReader = Callable[[Object, LogOptions], AsyncGenerator[bytes, None]]
"""Gives a pod's log in pieces; with ``follow`` until the container ends.

It raises a StatusError when it is called, not later, for a container that has no such log.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogResponse:
    """An answer that is text as it is written."""

    pieces: AsyncGenerator[bytes, None]
    status: int = 200
    content_type: str = "text/plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchOptions:
    """What a client asked of a watch."""

    selects: Test
    bookmarks: bool = False
    initial: tuple[Object, ...] = ()
    """Objects to begin with, as if they had just been added."""
    mark_end_of_initial: bool = False
    timeout_s: float | None = None


class WatchResponse:
    """An answer that is one JSON object a line for each change, as the changes come."""

    status = 200
    content_type = "application/json"

    def __init__(
        self,
        kind: Kind,
        watch: Watch,
        options: WatchOptions,
        *,
        revision: Callable[[], int],
        clock: Callable[[], float],
        show: Callable[[Object], Any] | None = None,
    ) -> None:
        self.ended = False
        """Whether everything that `take` has returned is all that there will be."""
        self._kind, self._watch, self._options = kind, watch, options
        self._revision, self._clock = revision, clock
        self._show = show or (lambda obj: obj)
        now_s = clock()
        self._ends_s = None if options.timeout_s is None else now_s + options.timeout_s
        self._bookmark_s = now_s + BOOKMARK_EVERY_S if options.bookmarks else None
        self._greeting = [_line("ADDED", self._show(obj)) for obj in options.initial]
        if options.mark_end_of_initial:
            self._greeting.append(self._bookmark(end_of_initial=True))

    def on_ready(self, wake: Callable[[], None]) -> None:
        """Have *wake* called when there is something to take after nothing was."""
        self._watch.on_ready = wake

    def wake_in_s(self) -> float | None:
        """Return after how long to call `take` though nothing happened; None: never."""
        due = [at for at in (self._ends_s, self._bookmark_s) if at is not None]
        return max(min(due) - self._clock(), 0.0) if due else None

    def take(self) -> bytes:
        """Return the lines that are due."""
        lines, self._greeting = self._greeting, []
        try:
            events = self._watch.take()
        except GoneError as error:
            lines.append(_line("ERROR", error.status()))
            self.ended = True
            return b"".join(lines)
        lines += [line for event in events if (line := self._tell(event))]
        now_s = self._clock()
        if self._ends_s is not None and now_s >= self._ends_s:
            self.ended = True
            if self._options.bookmarks:
                lines.append(self._bookmark())
        elif self._bookmark_s is not None and now_s >= self._bookmark_s:
            self._bookmark_s = now_s + BOOKMARK_EVERY_S
            lines.append(self._bookmark())
        return b"".join(lines)

    def close(self) -> None:
        """Follow no longer."""
        self._watch.on_ready = None
        self._watch.close()

    def _tell(self, event: Event) -> bytes:
        """Return the line for a change as a client with this selector sees it."""
        selects = self._options.selects
        now = event.type != "DELETED" and selects(event.object)
        before = event.previous is not None and selects(event.previous)
        if now:
            return _line("MODIFIED" if before else "ADDED", self._show(event.object))
        if not before or event.previous is None:
            return b""
        if event.type == "DELETED":
            return _line("DELETED", self._show(event.object))
        # What leaves the selection is told as deleted, in the last state that was in it.
        metadata = {**event.previous["metadata"], "resourceVersion": str(event.revision)}
        return _line("DELETED", self._show({**event.previous, "metadata": metadata}))

    def _bookmark(self, *, end_of_initial: bool = False) -> bytes:
        metadata: Object = {"resourceVersion": str(self._revision())}
        if end_of_initial:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        obj = {"apiVersion": self._kind.api_version, "kind": self._kind.kind, "metadata": metadata}
        return _line("BOOKMARK", obj)


def _line(change: str, obj: Any) -> bytes:
    return encode({"type": change, "object": obj}) + b"\n"

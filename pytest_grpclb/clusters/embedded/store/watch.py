"""Changes of objects, and whoever follows them.

:source: Kubernetes documentation, "API concepts", "Efficient detection of changes"
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_grpclb.clusters.embedded.store.status import GoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Event", "History", "Object", "Watch"]

Object = dict[str, Any]
"""A Kubernetes object; never changed once it was made."""

HISTORY = 4096
"""Changes kept of each kind: a client that is that far behind lists again (410 Gone)."""


class Event(NamedTuple):
    """One change of one object."""

    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Object
    """The state after it; for DELETED the last state, with the deletion's own resourceVersion."""
    previous: Object | None
    revision: int


class Watch:
    """The changes that nobody took yet, in order."""

    def __init__(
        self,
        namespace: str,
        backlog: Iterable[Event],
        *,
        limit: int,
        leave: Callable[[Watch], None],
    ) -> None:
        self.on_ready: Callable[[], None] | None = None
        """Called when something is there to take after nothing was."""
        self._namespace, self._limit, self._leave = namespace, limit, leave
        self._events = [event for event in backlog if self._concerns(event)]
        self._overrun = False

    def take(self) -> list[Event]:
        """Return what happened since the last call.

        :raises GoneError: if the reader was so slow that changes had to be thrown away
        """
        if self._overrun:
            raise GoneError(
                f"the watch was more than {self._limit} changes behind and lost some; "
                "list and watch again"
            )
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """Get no more changes."""
        self._leave(self)

    def offer(self, event: Event) -> None:
        """Note a change, if it is in the namespace that is watched."""
        if not self._concerns(event):
            return
        if len(self._events) == self._limit:
            self._overrun = True
            self.close()
            return
        self._events.append(event)
        if len(self._events) == 1 and self.on_ready is not None:
            self.on_ready()

    def _concerns(self, event: Event) -> bool:
        return not self._namespace or event.object["metadata"].get("namespace") == self._namespace


class History:
    """The latest changes of one kind, and the watches that get the next ones."""

    def __init__(self, *, limit: int = HISTORY) -> None:
        self._limit = limit
        self._events: deque[Event] = deque()
        self._expired = 0
        """Revision of the newest change that is no longer kept."""
        self._watches: list[Watch] = []

    def add(self, event: Event) -> None:
        """Keep a change and tell the watches."""
        if len(self._events) == self._limit:
            self._expired = self._events.popleft().revision
        self._events.append(event)
        for watch in tuple(self._watches):
            watch.offer(event)

    def watch(self, namespace: str, since: int) -> Watch:
        """Follow the changes after a revision.

        :raises GoneError: if some of them are no longer kept
        """
        if since < self._expired:
            raise GoneError(
                f"too old resource version: {since} ({self._expired}); list and watch again"
            )
        backlog = (event for event in self._events if event.revision > since)
        watch = Watch(namespace, backlog, limit=self._limit, leave=self._leave)
        self._watches.append(watch)
        return watch

    def _leave(self, watch: Watch) -> None:
        if watch in self._watches:
            self._watches.remove(watch)

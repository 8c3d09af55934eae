"""What the containers of one pod share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.store.store import timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pytest_grpclb.clusters.embedded.node.node import Node
    from pytest_grpclb.clusters.embedded.node.volumes import PodDirectory
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["Sandbox", "unless"]


@dataclass(slots=True, kw_only=True)
class Sandbox:
    """What the containers of one pod share."""

    node: Node
    pod: Object
    """As it was last seen."""
    ip: str
    directory: PodDirectory
    account: Mapping[str, bytes]
    changed: Callable[[], None]
    """To be called when a container's state has changed."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the pod is to end: nothing is started any more."""
    killed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when its time is up."""

    def normal(self, reason: str, message: str) -> None:
        """Record an event of the pod."""
        self.node.recorder.normal(self.pod, reason, message)

    def warning(self, reason: str, message: str) -> None:
        """Record an event of the pod that somebody should look at."""
        self.node.recorder.warning(self.pod, reason, message)

    def now(self) -> str:
        """Return the time as statuses tell it."""
        return timestamp(self.node.store.now())


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, Any]) -> None:
    """Do *work*, but no longer than until *event*."""
    tasks = [asyncio.create_task(work), asyncio.create_task(event.wait())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    if tasks[0].done() and not tasks[0].cancelled():
        tasks[0].result()

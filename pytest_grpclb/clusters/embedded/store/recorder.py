"""Events: what ``kubectl describe`` tells of an object's recent past.

:source: Kubernetes, ``k8s.io/client-go/tools/record``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pytest_grpclb.clusters.embedded.store.status import StatusError
from pytest_grpclb.clusters.embedded.store.store import Store, timestamp

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["Recorder"]

_PREFIXES = 16
"""Hexadecimal digits that tell the events of one object apart, as in client-go."""


class Recorder:
    """Writes events of one component; an event that happened before is counted, not repeated."""

    def __init__(self, store: Store, component: str, host: str = "") -> None:
        self._store, self._component, self._host = store, component, host
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}
        self._made = 0

    def normal(self, about: Object, reason: str, message: str) -> None:
        """Record something that was to be expected."""
        self._record("Normal", about, reason, message)

    def warning(self, about: Object, reason: str, message: str) -> None:
        """Record something that somebody should look at."""
        self._record("Warning", about, reason, message)

    def _record(
        self, kind: Literal["Normal", "Warning"], about: Object, reason: str, message: str
    ) -> None:
        metadata = about["metadata"]
        key = (metadata["uid"], kind, reason, message)
        now = timestamp(self._store.now())
        try:
            if key in self._known:
                known = self._store.find("events", *self._known[key])
                if known is not None:
                    again = {**known, "count": known["count"] + 1, "lastTimestamp": now}
                    self._store.update("events", again)
                    return
            self._known[key] = self._create(about, kind, reason, message, now)
        except StatusError:
            return  # the namespace is going away: nobody will read it

    def _create(
        self, about: Object, kind: str, reason: str, message: str, now: str
    ) -> tuple[str, str]:
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        self._made += 1
        name = f"{metadata['name']}.{self._component}.{self._made:0{_PREFIXES}x}"
        source = {"component": self._component} | ({"host": self._host} if self._host else {})
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        }
        if "namespace" in metadata:
            involved["namespace"] = metadata["namespace"]
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "type": kind,
            "reason": reason,
            "message": message,
            "source": source,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        self._store.create("events", event)
        return name, namespace

"""A live view of the pods behind a selector: list, then watch, for as long as it is open."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import PODS, KubeApi
from pytest_grpclb.errors import ApiError
from pytest_grpclb.model import Backend, Event, EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.clusters.api.streaming import ResponseStream

__all__ = ["PodState", "PodWatch", "selector_text"]

_WATCH_S = 240
"""The API ends a watch after this time and it is opened anew; below the client's usual timeouts."""
_PAUSE_S = 0.2
_LIST_S = 10.0
_HOSTNAME = 63
"""A pod's host name, which its processes know, is its name cut off so. Source: Kubernetes
documentation, "DNS for Services and Pods", pod's hostname."""
_ENDED = frozenset({"Failed", "Succeeded"})
"""Phases of pods that stay for whoever wants to look at them; others have taken their places."""


def selector_text(selector: Mapping[str, str]) -> str:
    """Write match labels the way the API takes them in a query."""
    return ",".join(f"{key}={value}" for key, value in sorted(selector.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class PodState:
    """What the watch last said of one pod."""

    uid: str
    name: str
    address: str
    addresses: tuple[str, ...]
    """All that it has, also of the other IP family; the first is `address`."""
    ready: bool
    terminating: bool
    ended: bool
    """Whether it will never run again though it is still there: it was evicted, or has finished."""
    manifest: Mapping[str, Any]

    @property
    def serves(self) -> bool:
        """Whether new calls should go to it."""
        return self.ready and not self.terminating

    @property
    def stays(self) -> bool:
        """Whether it counts as one of its workload's replicas."""
        return not self.terminating and not self.ended


def pod_state(pod: Mapping[str, Any]) -> PodState:
    """Read a pod object.

    :source: Kubernetes documentation, "Pod Lifecycle", pod conditions and phases; Kubernetes API,
        ``PodStatus.podIPs``
    """
    status = pod.get("status", {})
    conditions = {entry["type"]: entry["status"] for entry in status.get("conditions") or ()}
    address = status.get("podIP", "")
    listed = (each["ip"] for each in status.get("podIPs") or () if each.get("ip"))
    return PodState(
        uid=pod["metadata"]["uid"],
        name=pod["metadata"]["name"],
        address=address,
        addresses=tuple(dict.fromkeys((*([address] if address else []), *listed))),
        ready=conditions.get("Ready") == "True",
        terminating="deletionTimestamp" in pod["metadata"],
        ended=status.get("phase") in _ENDED,
        manifest=pod,
    )


class PodWatch:
    """Follows the pods of one selector in a thread of its own.

    Keeps the pods that are there, every pod that ever served (as Backend, with the moments it
    became and stopped being ready, as this process learned of them), and the events of both.
    """

    def __init__(self, api: KubeApi, namespace: str, selector: Mapping[str, str]) -> None:
        self._api, self._namespace = api, namespace
        self._selector = selector_text(selector)
        self._changed = threading.Condition()
        self._pods: dict[str, PodState] = {}
        self._backends: dict[str, Backend] = {}
        self._by_address: dict[str, str] = {}
        self._by_name: dict[str, set[str]] = {}
        self._events: list[Event] = []
        self._stream: ResponseStream | None = None
        self._lists = 0
        self._listing = False
        self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="grpclb-pod-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            stream = self._stream
            self._changed.notify_all()
        if stream is not None:
            stream.close()
        self._thread.join()

    @property
    def closed(self) -> bool:
        """Whether the thread is to end, so that nothing changes any more."""
        return self._closed

    # --- what is known

    def pods(self) -> tuple[PodState, ...]:
        """Return the pods that exist now."""
        with self._changed:
            return tuple(self._pods.values())

    def backends(self) -> tuple[Backend, ...]:
        """Return every pod that was ready at some moment, in order of readiness."""
        with self._changed:
            return tuple(self._backends.values())

    def events(self) -> tuple[Event, ...]:
        """Return all that happened so far."""
        with self._changed:
            return tuple(self._events)

    def uid_of(self, told: str) -> str:
        """Return the UID of the pod that *told* names; itself where it names none, or several.

        The pods of a StatefulSet have their names one after the other.

        :param told: what was said of who answered: a UID, a name, or an address with or without its
            port
        """
        host = told.rpartition(":")[0].strip("[]")
        with self._changed:
            if address := self._by_address.get(told) or self._by_address.get(host):
                return address
            named = self._by_name.get(told, ())
            return next(iter(named)) if len(named) == 1 else told

    def note(self, kind: EventKind, *, backend: str = "", detail: str = "") -> None:
        """Add an event that the caller is about to cause."""
        with self._changed:
            self._events.append(
                Event(at_s=time.monotonic(), kind=kind, backend=backend, detail=detail)
            )
            self._changed.notify_all()

    def wait_for(
        self, condition: Callable[[tuple[PodState, ...]], bool], *, timeout_s: float
    ) -> bool:
        """Wait until *condition* holds for the pods; return whether it did in time.

        :raises ApiError: if the watch itself failed for good
        """

        def holds() -> bool:
            if self._failure is not None:
                raise self._failure
            return condition(tuple(self._pods.values()))

        with self._changed:
            return self._changed.wait_for(holds, timeout_s)

    def refresh(self) -> None:
        """Have the pods listed: what is waited for in vain may have come without a word of it.

        Raises nothing if they cannot be listed in a few seconds: what is known stays.
        """
        with self._changed:
            before, stream, self._listing = self._lists, self._stream, True
        if stream is not None:
            stream.close()
        # The watch does it itself: else what has just gone might come back out of an older list.
        with self._changed:
            self._changed.wait_for(
                lambda: self._lists > before or self._closed or self._failure is not None, _LIST_S
            )

    # --- the thread

    def _run(self) -> None:
        while not self._closed:
            try:
                self._follow()
            except ConnectionError:
                self._pause()
            except ApiError as error:
                if error.status in {401, 403, 404}:
                    with self._changed:
                        self._failure = error
                        self._changed.notify_all()
                    return
                self._pause()

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed, _PAUSE_S)

    def _follow(self) -> None:
        """List, then watch from there until the watch ends; a 410 Gone means list again."""
        path = PODS.path(self._namespace)
        query = {"labelSelector": self._selector}
        self._listing = False
        revision = self._list(query)
        while not (self._closed or self._listing):
            query |= {
                "watch": "1",
                "allowWatchBookmarks": "true",
                "resourceVersion": revision,
                "timeoutSeconds": str(_WATCH_S),
            }
            stream = self._api.stream(path, query=query, timeout_s=_WATCH_S + 30)
            with self._changed:
                self._stream = stream
                if self._closed or self._listing:
                    stream.close()
                    return
            with stream:
                for event in stream.events():
                    if event["type"] == "ERROR":
                        return
                    revision = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] == "BOOKMARK":
                        continue
                    with self._changed:
                        state = pod_state(event["object"])
                        if event["type"] == "DELETED":
                            self._forget(state.uid)
                        else:
                            self._see(state)
                        self._changed.notify_all()

    def _list(self, query: Mapping[str, str]) -> str:
        """Take in the pods that there are; return from where to watch."""
        listed = self._api.request("GET", PODS.path(self._namespace), query=query)
        with self._changed:
            present = {pod["metadata"]["uid"] for pod in listed["items"]}
            for uid in self._pods.keys() - present:
                self._forget(uid)
            for pod in listed["items"]:
                self._see(pod_state(pod))
            self._lists += 1
            self._changed.notify_all()
        revision: str = listed["metadata"]["resourceVersion"]
        return revision

    def _see(self, state: PodState) -> None:
        self._pods[state.uid] = state
        if not state.ended:  # the address of one that has ended may be another's by now
            for address in state.addresses:
                self._by_address[address] = state.uid  # an address is one pod's after another
        for name in {state.name, state.name[:_HOSTNAME]}:
            self._by_name.setdefault(name, set()).add(state.uid)
        known = self._backends.get(state.uid)
        now_s = time.monotonic()
        if state.serves and (known is None or known.removed_at_s is not None):
            self._backends[state.uid] = Backend(
                uid=state.uid,
                name=state.name,
                address=state.address,
                other_addresses=state.addresses[1:],
                ready_at_s=now_s,
            )
            self._events.append(Event(at_s=now_s, kind=EventKind.ENDPOINT_READY, backend=state.uid))
        elif not state.serves:
            self._withdraw(state.uid, now_s)

    def _forget(self, uid: str) -> None:
        self._withdraw(uid, time.monotonic())
        self._pods.pop(uid, None)

    def _withdraw(self, uid: str, now_s: float) -> None:
        known = self._backends.get(uid)
        if known is not None and known.removed_at_s is None:
            self._backends[uid] = replace(known, removed_at_s=now_s)
            self._events.append(Event(at_s=now_s, kind=EventKind.ENDPOINT_REMOVED, backend=uid))

"""Who picks the pod of each call, the client or a proxy, and what that tells of itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_grpclb.driver.told import ClientView
    from pytest_grpclb.ingress import Ingress
    from pytest_grpclb.model import Backend
    from pytest_grpclb.sidecar import Sidecar

__all__ = ["ClientPicks", "Company", "IngressPicks", "Picker", "Presence", "SidecarPicks"]

_SIDECAR_S = 5.0
"""As long as a channel's warm-up may take: by then a sidecar knows every pod."""
_LOGGED_S = 2.0
"""A sidecar writes its log ten times a second."""
_FOLLOWING_S = 4.0
"""Beyond what an ingress takes to follow its endpoints; the run itself shows what takes longer."""


def _not_yet() -> bool:
    return False


@dataclass(eq=False)
class Presence:
    """A run, or a channel, for as long as it may send calls."""

    is_over: Callable[[], bool] = _not_yet
    alone: bool = True
    """Whether nobody else of this test has sent calls meanwhile."""

    def leave(self) -> None:
        """Say that no more calls will be sent."""
        self.is_over = lambda: True


@dataclass(eq=False)
class Company:
    """Who sends calls at the same time as who else.

    A proxy's round robin goes round among all of them: what one of them gets is no row of picks.
    """

    _present: list[Presence] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self) -> Presence:
        """Return the presence of somebody new, who is not alone if others are still there."""
        with self._lock:
            self._disturb()
            entered = Presence(alone=not self._present)
            self._present.append(entered)
        return entered

    def disturb(self) -> None:
        """Say that somebody may send calls for a moment."""
        with self._lock:
            self._disturb()

    def _disturb(self) -> None:
        self._present = [each for each in self._present if not each.is_over()]
        for each in self._present:
            each.alone = False


class Picker(Protocol):
    """Who picks the pod of each call."""

    def settle(self, backends: Callable[[], tuple[Backend, ...]]) -> None:
        """Wait until it goes by the *backends* that are ready, and count its rebuilds from here.

        :raises PreflightError: if no call can get through
        """

    @property
    def proxied(self) -> bool:
        """Whether that is a proxy between client and pods, not the client's channels."""

    def pickers(self) -> int | None:
        """Return how many workers of the proxy pick, each by itself; None: unknown, or no proxy."""

    def rebuilds(self, view: ClientView, *, ended: bool) -> int | None:
        """Return how often its set of backends has changed since `settle`; None: unknown.

        :param view: what the client's channels tell
        :param ended: whether the run has; what a proxy tells in the middle of one is no sum yet
        """

    def files(self) -> Mapping[str, str]:
        """Return what explains its doings, by file name."""


class ClientPicks:
    """The client's own load-balancing policy picks."""

    proxied = False

    def settle(self, backends: Callable[[], tuple[Backend, ...]]) -> None:
        """Return at once: warm-up calls wait for every backend."""

    def pickers(self) -> int | None:
        """Return None: each channel picks."""
        return None

    def rebuilds(self, view: ClientView, *, ended: bool) -> int | None:  # noqa: ARG002
        """Return what the channels tell."""
        return view.picker_rebuilds

    def files(self) -> Mapping[str, str]:
        """Return none."""
        return {}


class SidecarPicks:
    """An Envoy beside the client picks."""

    proxied = True

    def __init__(self, sidecar: Sidecar, *, port: int, dns_cache_s: float = 0.0) -> None:
        """Ask *sidecar*.

        :param port: where the backends listen
        :param dns_cache_s: for so long it may be told of backends of before
        """
        self._sidecar, self._port = sidecar, port
        self._patience_s = _SIDECAR_S + dns_cache_s
        self._shifts: int | None = None
        self._workers: int | None = None

    def settle(self, backends: Callable[[], tuple[Backend, ...]]) -> None:
        """Wait until the backends are its hosts."""
        wanted = {f"{each.address}:{self._port}" for each in backends()}
        self._sidecar.wait_hosts(wanted, self._patience_s)
        self._shifts = self._sidecar.shifts()

    def pickers(self) -> int | None:
        """Return the number of its workers, which is what it was started with."""
        if self._workers is None:
            self._workers = self._sidecar.workers()
        return self._workers

    def rebuilds(self, view: ClientView, *, ended: bool) -> int | None:  # noqa: ARG002
        """Return what its counters tell."""
        now = self._sidecar.shifts() if ended else None
        return None if now is None or self._shifts is None else now - self._shifts

    def files(self) -> Mapping[str, str]:
        """Return its configuration, hosts and counters, when its log tells of every call."""
        self._sidecar.wait_logged(_LOGGED_S)
        return self._sidecar.files()


class IngressPicks:
    """The proxy of an ingress controller picks."""

    proxied = True

    def __init__(self, ingress: Ingress, *, identify: Callable[[str], str] = str) -> None:
        """Ask the proxy behind *ingress*.

        :param identify: returns the UID of a pod by what names it in an answer
        """
        self._ingress, self._identify = ingress, identify
        self._rebuilds = 0

    def settle(self, backends: Callable[[], tuple[Backend, ...]]) -> None:
        """Compare the chain from host to container port, then wait until endpoints are followed.

        :raises PreflightError: if the chain does not fit together
        """
        self._ingress.check()
        self._ingress.wait_following(
            lambda: frozenset(backend.uid for backend in backends()),
            self._ingress.cluster.ingress_push_s + _FOLLOWING_S,
            identify=self._identify,
        )
        self._rebuilds = self._ingress.picker_rebuilds()

    def pickers(self) -> int | None:
        """Return the number of the proxy's workers, where the cluster tells."""
        return self._ingress.cluster.ingress_workers

    def rebuilds(self, view: ClientView, *, ended: bool) -> int | None:  # noqa: ARG002
        """Return how often its round robin got other pods or began anew, where that is told."""
        if not ended or self._ingress.cluster.ingress_workers is None:
            return None
        return self._ingress.picker_rebuilds() - self._rebuilds

    def files(self) -> Mapping[str, str]:
        """Return the Ingress as it is, and the proxy's configuration."""
        return {"ingress.txt": self._ingress.describe(), **self._ingress.cluster.ingress_files()}

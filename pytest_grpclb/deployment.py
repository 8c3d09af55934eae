"""A handle on what runs: the backends of one service, changed and observed through the API."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, EVENTS, PODS, STATEFULSETS, KubeApi
from pytest_grpclb.clusters.namespaces import create_namespace, delete_namespace
from pytest_grpclb.clusters.pods.describing import describe_pods
from pytest_grpclb.clusters.pods.hints import HOPELESS_WAITS, Hint, hint_of
from pytest_grpclb.clusters.pods.readiness import ReadinessGate
from pytest_grpclb.clusters.pods.watch import PodState, PodWatch
from pytest_grpclb.errors import ApiError, NotReadyError, ServiceError
from pytest_grpclb.model import Backend, EventKind, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

__all__ = [
    "Deployment",
    "temporary_namespace",
]

__tracebackhide__ = True  # what an error says is for people; these frames are not

_SAVED_LINES = 10_000
_LOOK_S = 1.0
"""How long pods are waited for before one looks why they are not ready."""


@contextmanager
def temporary_namespace(
    api: KubeApi, name: str, *, run: str, keep: Callable[[], bool] = lambda: False
) -> Iterator[str]:
    """Create a namespace that carries the run's label, and delete it afterwards without waiting.

    :param keep: asked at the end whether it is to stay
    :raises ApiError: if it exists already or may not be created
    """
    try:
        create_namespace(api, name, run=run)
        yield name
    finally:
        # Also when creating was interrupted: the API may have done it.
        if not keep():
            delete_namespace(api, name, run=run)


class Deployment:
    """The pods of one Deployment or StatefulSet: wait for them, scale, kill and restart them."""

    def __init__(
        self,
        api: KubeApi,
        service: Service,
        *,
        ready_timeout_s: float,
        gated: bool = False,
        crashes_allowed: int | None = None,
        may_change: bool = True,
    ) -> None:
        """Follow the pods.

        :param gated: their readiness gate is to be opened, and can be shut: see `with_gate`
        :param crashes_allowed: starts in a row that may fail before waiting is given up; None: any
        :param may_change: whether pods may be scaled, killed and restarted
        """
        self._crashes_allowed, self._may_change = crashes_allowed, may_change
        self._api, self.service, self._ready_timeout_s = api, service, ready_timeout_s
        self.watch = PodWatch(api, service.namespace, service.selector)
        self._gate = ReadinessGate(api, service.namespace, self.watch) if gated else None

    def close(self) -> None:
        """Stop watching; what runs goes on."""
        self.watch.close()
        if self._gate is not None:
            self._gate.join()

    def serving(self) -> tuple[PodState, ...]:
        """Return the pods that new calls should go to."""
        return tuple(pod for pod in self.watch.pods() if pod.serves)

    def backends(self) -> tuple[Backend, ...]:
        """Return the pods that are ready now, in order of readiness."""
        return tuple(each for each in self.watch.backends() if each.removed_at_s is None)

    def wait_ready(self, replicas: int, *, without: frozenset[str] = frozenset()) -> None:
        """Wait until exactly *replicas* pods are ready and no other is left but terminating ones.

        Pods that `make_unready` was asked for count as ready.

        :param without: UIDs of pods that must have gone
        :raises NotReadyError: after the ready timeout, or as soon as waiting is hopeless; with the
            pods' states, their last events and log lines
        """

        def done(pods: tuple[PodState, ...]) -> bool:
            staying = [pod for pod in pods if pod.stays]
            if any(_hopeless(pod) for pod in staying):
                return True
            uids = {pod.uid for pod in staying}
            shut = frozenset() if self._gate is None else self._gate.shut
            return (
                len(staying) == replicas
                and all(pod.ready or pod.uid in shut for pod in staying)
                and not uids & without
            )

        began_s = time.monotonic()
        hint = None
        while (left_s := began_s + self._ready_timeout_s - time.monotonic()) > 0:
            in_time = self.watch.wait_for(done, timeout_s=min(left_s, _LOOK_S))
            if in_time and not any(_hopeless(pod) for pod in self.watch.pods()):
                return
            hint = self._hint()
            if in_time or (hint is not None and hint.hopeless):
                break
        self.watch.refresh()
        pods = self.watch.pods()
        if done(pods) and not any(_hopeless(pod) for pod in pods):
            return
        raise NotReadyError(
            self.service.deployment,
            ready=sum(pod.serves for pod in pods),
            wanted=replicas,
            timeout_s=round(min(time.monotonic() - began_s, self._ready_timeout_s), 1),
            details=self.describe(),
            advice="" if hint is None else hint.text,
        )

    def _hint(self) -> Hint | None:
        if self._gate is not None and self._gate.refused is not None:
            return Hint(
                text="their readiness gate cannot be opened: give this user the right to patch "
                f"pods/status, or do without readiness_gate ({self._gate.refused})",
                hopeless=True,
            )
        try:
            events = self._api.list(EVENTS, self.service.namespace)
        except (ApiError, ConnectionError):  # not allowed, or not there just now
            events = []
        pods = [pod.manifest for pod in self.watch.pods()]
        return hint_of(
            pods,
            events,
            workload=self.service.deployment,
            crashes_allowed=self._crashes_allowed,
            last_words=self._last_words,
        )

    def _last_words(self, pod: str, container: str) -> str:
        try:
            return self._api.logs(self.service.namespace, pod, container=container, lines=20)
        except (ApiError, ConnectionError):  # it has none, or has gone
            return ""

    def _check_change(self, what: str) -> None:
        """Refuse to change what is somebody else's.

        :raises ServiceError: if that was not allowed
        """
        if not self._may_change:
            raise ServiceError(
                "--grpclb-service",
                message=f"a test wants to {what} {self.service.name!r}, which runs already and is "
                "only looked at",
                advice="allow that with --grpclb-service-changes, or keep such tests from it",
            )

    def scale(self, replicas: int) -> None:
        """Set the number of replicas and wait until it is reached.

        :raises ValueError: if *replicas* is negative
        :raises NotReadyError: as `wait_ready`
        """
        if replicas < 0:
            raise ValueError(f"replicas must be 0 or more, got {replicas}")
        self._check_change("scale")
        before = len(self.serving())
        self.watch.note(EventKind.SCALE, detail=f"{before} -> {replicas}")
        self._api.request(
            "PATCH",
            self._path("scale"),
            body={"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )
        self.wait_ready(replicas)

    def kill(self, name: str | None = None) -> Backend:
        """Delete one pod with no grace, and wait until its replacement is ready.

        :param name: the pod; the one that has been ready longest if not given
        :return: the pod that was killed
        :raises ValueError: if no ready pod has that name
        :raises NotReadyError: as `wait_ready`
        """
        self._check_change("kill a pod of")
        ready = self.backends()
        chosen = [backend for backend in ready if name in {None, backend.name}]
        if not chosen:
            names = ", ".join(backend.name for backend in ready) or "none"
            raise ValueError(f"no ready pod is called {name!r}; ready are: {names}")
        victim = chosen[0]
        wanted = self._staying()
        self.watch.note(EventKind.KILL, backend=victim.uid)
        self._api.delete(PODS, self.service.namespace, victim.name, grace_s=0)
        self.wait_ready(wanted, without=frozenset({victim.uid}))
        return victim

    def restart(self, *, until_ended: bool = False) -> None:
        """Replace every pod by a rolling update, as ``kubectl rollout restart`` does, and wait.

        :param until_ended: wait also until the old pods have ended
        :raises NotReadyError: as `wait_ready`
        """
        self._check_change("restart")
        before = tuple(pod for pod in self.watch.pods() if pod.stays)
        self.watch.note(EventKind.RESTART)
        moment = datetime.now(UTC).isoformat(timespec="microseconds")
        annotations = {"kubectl.kubernetes.io/restartedAt": moment}
        self._api.request(
            "PATCH",
            self._path(),
            body={"spec": {"template": {"metadata": {"annotations": annotations}}}},
            content_type="application/merge-patch+json",
            repeatable=True,
        )
        old = frozenset(pod.uid for pod in before)
        self.wait_ready(len(before), without=old)
        if not until_ended:
            return
        timeout_s = self._ready_timeout_s + max(map(_grace_s, before), default=0.0)
        if not self.watch.wait_for(
            lambda pods: old.isdisjoint(pod.uid for pod in pods), timeout_s=timeout_s
        ):
            raise NotReadyError(
                self.service.deployment,
                ready=len(self.serving()),
                wanted=len(before),
                timeout_s=timeout_s,
                details=f"old pods have not ended\n{self.describe()}",
            )

    def unready(self) -> dict[str, str]:
        """Return the UIDs of the pods that were made unready, by name."""
        shut = frozenset() if self._gate is None else self._gate.shut
        return {
            pod.name: pod.uid
            for pod in self.watch.pods()
            if pod.uid in shut and not pod.terminating
        }

    def make_unready(self, name: str | None = None) -> Backend:
        """Make one pod unready, which goes on serving who still calls it, and wait until it is.

        :param name: the pod; the one that has been ready longest if not given
        :return: the pod
        :raises ValueError: if no ready pod has that name, or the pods have no readiness gate
        :raises NotReadyError: as `wait_ready`
        """
        ready = self.backends()
        chosen = [backend for backend in ready if name in {None, backend.name}]
        if self._gate is None:
            raise ValueError(
                "the pods have no readiness gate; mark the test "
                "@pytest.mark.grpclb(readiness_gate=True)"
            )
        if not chosen:
            names = ", ".join(backend.name for backend in ready) or "none"
            raise ValueError(f"no ready pod is called {name!r}; ready are: {names}")
        self.watch.note(EventKind.MAKE_UNREADY, backend=chosen[0].uid)
        self._gate.turn(chosen[0].name, chosen[0].uid, is_open=False)
        self._await_readiness(chosen[0].uid, ready=False)
        return chosen[0]

    def make_ready(self, name: str) -> None:
        """Let a pod be ready that was made unready, and wait until it is.

        :raises ValueError: if no such pod has that name
        :raises NotReadyError: as `wait_ready`
        """
        unready = self.unready()
        if self._gate is None or name not in unready:
            names = ", ".join(unready) or "none"
            raise ValueError(f"no pod {name!r} was made unready; those that were: {names}")
        self.watch.note(EventKind.MAKE_READY, backend=unready[name])
        self._gate.turn(name, unready[name], is_open=True)
        self._await_readiness(unready[name], ready=True)

    def _path(self, subresource: str = "") -> str:
        where = STATEFULSETS if self.service.kind == "StatefulSet" else DEPLOYMENTS
        return where.path(self.service.namespace, self.service.deployment, subresource)

    def _staying(self) -> int:
        return sum(pod.stays for pod in self.watch.pods())

    def _await_readiness(self, uid: str, *, ready: bool) -> None:
        def done(pods: tuple[PodState, ...]) -> bool:
            return all(pod.ready is ready for pod in pods if pod.uid == uid)

        if not self.watch.wait_for(done, timeout_s=self._ready_timeout_s):
            raise NotReadyError(
                self.service.deployment,
                ready=len(self.serving()),
                wanted=len(self.serving()) + (1 if ready else -1),
                timeout_s=self._ready_timeout_s,
                details=self.describe(),
            )

    def logs(self, pod: str, *, lines: int = 50) -> str:
        """Return the last *lines* that a pod has written: its main container, where it has several.

        :raises ApiError: if there is no such pod
        """
        found = [each for each in self.watch.pods() if each.name == pod]
        container = _main_container(found[0].manifest) if found else ""
        return self._api.logs(self.service.namespace, pod, container=container, lines=lines)

    def save_logs(self, folder: Path) -> None:
        """Write what every pod has written: POD.log, or POD-CONTAINER.log where it has several."""
        for pod in self.watch.pods():
            containers = [each["name"] for each in pod.manifest["spec"]["containers"]]
            for container in containers:
                name = pod.name if len(containers) == 1 else f"{pod.name}-{container}"
                try:
                    log = self._api.logs(
                        self.service.namespace, pod.name, container=container, lines=_SAVED_LINES
                    )
                except (ApiError, ConnectionError) as error:
                    log = f"(it cannot be read: {error})"
                (folder / f"{name}.log").write_text(log)

    def describe(self, *, each: bool = False) -> str:
        """Tell every pod's state, its last events and log lines: what explains a failure.

        :param each: also of pods that are as one that was told of
        """
        return describe_pods(self._api, self.service.namespace, self.service.selector, each=each)


def _grace_s(pod: PodState) -> float:
    return float(pod.manifest["spec"].get("terminationGracePeriodSeconds") or 0.0)


def _main_container(pod: Mapping[str, Any]) -> str:
    """Return the container that kubectl would take: a mesh may have put its own before the first.

    :source: Kubernetes documentation, "Well-Known Labels, Annotations and Taints",
        ``kubectl.kubernetes.io/default-container``
    """
    annotations = pod["metadata"].get("annotations") or {}
    first: str = pod["spec"]["containers"][0]["name"]
    return str(annotations.get("kubectl.kubernetes.io/default-container") or first)


def _hopeless(pod: PodState) -> bool:
    return any(
        status.get("state", {}).get("waiting", {}).get("reason") in HOPELESS_WAITS
        for status in pod.manifest.get("status", {}).get("containerStatuses", ())
    )

"""A store with its controllers and a clock of its own; pods become ready when a test says so."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.controllers import Manager, controllers
from pytest_grpclb.clusters.embedded.store.deletion import timestamp
from pytest_grpclb.clusters.embedded.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.embedded.store.watch import Object

NAMESPACE = "test"
LABELS = {"app": "greeter"}


class World:
    """Everything of a cluster that is pure, and a kubelet that does what it is told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)
        self.store = Store(now=lambda: self.time)
        self.later: list[tuple[datetime, Callable[[], None]]] = []
        self._soon: list[Callable[[], None]] = []
        self._addresses = (f"127.9.1.{number}" for number in itertools.count(1))
        Manager(
            self.store,
            controllers(self.store),
            soon=self._soon.append,
            later=lambda delay_s, work: self.later.append(
                (self.time + timedelta(seconds=delay_s), work)
            ),
            report=self._fail,
        )
        self.store.create(
            "namespaces", {"metadata": {"name": NAMESPACE}, "spec": {"finalizers": ["kubernetes"]}}
        )
        self.settle()

    def _fail(self, controller: object, key: object, error: Exception) -> None:
        raise AssertionError(f"{controller} {key}") from error

    def settle(self) -> None:
        """Let the controllers work until nothing is due."""
        while self._soon:
            self._soon.pop(0)()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and what was put off until then happen."""
        self.time += timedelta(seconds=seconds)
        due = [work for at, work in self.later if at <= self.time]
        self.later = [entry for entry in self.later if entry[0] > self.time]
        for work in due:
            work()
        self.settle()

    # --- objects

    def deploy(self, name: str = "greeter", **spec: Any) -> Object:
        """Create or change a Deployment."""
        metadata = {"name": name, "namespace": NAMESPACE}
        wanted = {
            "replicas": 3,
            "selector": {"matchLabels": LABELS},
            "template": template(),
            **spec,
        }
        if self.store.find("deployments.apps", name, NAMESPACE) is None:
            made = self.store.create("deployments.apps", {"metadata": metadata, "spec": wanted})
        else:
            made = self.store.update("deployments.apps", {"metadata": metadata, "spec": wanted})
        self.settle()
        return made

    def deployment(self, name: str = "greeter") -> Object:
        """Return a Deployment as it is."""
        return self.store.get("deployments.apps", name, NAMESPACE)

    def condition(self, kind: str) -> Object:
        """Return a condition of the Deployment."""
        entries = self.deployment()["status"]["conditions"]
        found: Object = next(entry for entry in entries if entry["type"] == kind)
        return found

    def replicasets(self) -> list[Object]:
        """Return the ReplicaSets, oldest revision first."""
        return sorted(
            self.store.list("replicasets.apps", NAMESPACE),
            key=lambda each: int(each["metadata"]["annotations"][REVISION]),
        )

    def sizes(self) -> list[int]:
        """Return the size that each ReplicaSet should have, oldest revision first."""
        return [each["spec"]["replicas"] for each in self.replicasets()]

    def pods(self) -> list[Object]:
        """Return all pods, those that are ending among them."""
        return self.store.list("pods", NAMESPACE)

    def create_pod(
        self, name: str, labels: dict[str, str] | None = None, **metadata: Any
    ) -> Object:
        """Create a pod that no controller made."""
        made = self.store.create(
            "pods",
            {
                "metadata": {
                    "name": name,
                    "namespace": NAMESPACE,
                    "labels": LABELS if labels is None else labels,
                    **metadata,
                },
                "spec": template()["spec"],
            },
        )
        self.settle()
        return made

    # --- the kubelet

    def run(self, name: str, *, ready: bool = True, phase: str = "Running") -> None:
        """Have a pod run, with an address, ready or not."""
        pod = self.store.get("pods", name, NAMESPACE)
        if "nodeName" not in pod["spec"]:
            spec = {**pod["spec"], "nodeName": "embedded"}
            pod = self.store.update("pods", {**pod, "spec": spec})
        status = {
            "phase": phase,
            "podIP": pod["status"].get("podIP") or next(self._addresses),
            "conditions": [
                {
                    "type": "Ready",
                    "status": str(ready),
                    "lastTransitionTime": timestamp(self.time),
                }
            ],
        }
        self.store.update_status("pods", {**pod, "status": status})
        self.settle()

    def run_all(self) -> None:
        """Have every pod that is not ending run and be ready, and those that are end."""
        for name in names(self.pods()):
            pod = self.store.find("pods", name, NAMESPACE)
            if pod is None:
                continue  # never began to run, so it needed no time to end
            if "deletionTimestamp" in pod["metadata"]:
                self.end(name)
            elif pod["status"].get("phase") == "Pending":
                self.run(name)

    def end(self, name: str) -> None:
        """Have a pod that is being deleted be gone."""
        self.store.delete("pods", name, NAMESPACE, grace_s=0)
        self.settle()

    def roll_out(self) -> list[list[int]]:
        """Run what is there until nothing changes any more; return the sizes on the way."""
        seen = [self.sizes()]
        while True:
            before = self.store.revision
            self.run_all()
            if self.sizes() != seen[-1]:
                seen.append(self.sizes())
            if self.store.revision == before:
                return seen


REVISION = "deployment.kubernetes.io/revision"


def template(image: str = "greeter:1", **metadata: Any) -> Object:
    """Return a pod template."""
    return {
        "metadata": {"labels": LABELS, **metadata},
        "spec": {
            "containers": [
                {
                    "name": "main",
                    "image": image,
                    "ports": [{"name": "grpc", "containerPort": 50051}],
                }
            ]
        },
    }


def names(objects: list[Object]) -> list[str]:
    """Return the names of objects."""
    return [obj["metadata"]["name"] for obj in objects]

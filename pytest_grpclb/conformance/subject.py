"""What a check is given: a cluster, a namespace of its own in it, and the sample service."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.api.kube import DEPLOYMENTS, EVENTS, PODS, KubeApi, Resource
from pytest_grpclb.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.model import Manifest

__all__ = ["CONFIG_MAPS", "SLICES", "Subject"]

CONFIG_MAPS = Resource("v1", "configmaps", namespaced=True)
SLICES = Resource("discovery.k8s.io/v1", "endpointslices", namespaced=True)

_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A cluster under test. Each check wants a namespace in which nothing is yet."""

    cluster: Cluster
    api: KubeApi
    namespace: str
    run: str
    """What namespaces of this run carry as their label."""
    manifests: Sequence[Manifest]
    """The sample service: the sample's chart, rendered for this namespace."""
    timeout_s: float = 60.0
    """How long a change may take to show: images are pulled, pods are started."""

    @property
    def settings(self) -> Settings:
        """Settings for what the checks install."""
        return Settings(replicas=self.replicas, ready_timeout_s=self.timeout_s)

    @property
    def deployment(self) -> Manifest:
        """The sample's Deployment."""
        [found] = [each for each in self.manifests if each["kind"] == "Deployment"]
        return found

    @property
    def service(self) -> Manifest:
        """The sample's Service."""
        [found] = [each for each in self.manifests if each["kind"] == "Service"]
        return found

    @property
    def name(self) -> str:
        """The name of the sample's Deployment."""
        return str(self.deployment["metadata"]["name"])

    @property
    def replicas(self) -> int:
        """How many pods the sample asks for."""
        return int(self.deployment["spec"]["replicas"])

    @property
    def selector(self) -> str:
        """The label selector of the sample's pods."""
        labels = self.deployment["spec"]["selector"]["matchLabels"]
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

    # --- acting

    def install(self) -> dict[str, dict[str, Any]]:
        """Apply the sample, wait until it is complete, and return its pods by name."""
        self.api.apply(self.manifests, namespace=self.namespace)
        return self.settle(self.replicas)

    def settle(self, replicas: int) -> dict[str, dict[str, Any]]:
        """Wait until the sample has exactly *replicas* pods, all ready; return them by name."""
        return self.wait(
            PODS,
            lambda pods: len(pods) == replicas and all(map(is_ready, pods.values())),
            f"{replicas} ready pods and no other",
            selector=self.selector,
        )

    def create(self, where: Resource, manifest: Manifest) -> dict[str, Any]:
        """Create an object by POST."""
        return self.api.request("POST", where.path(self.namespace), body=manifest)

    def patch(
        self, where: Resource, name: str, body: Any, *, subresource: str = ""
    ) -> dict[str, Any]:
        """Change an object by a merge patch."""
        path = where.path(self.namespace, name, subresource)
        return self.api.request("PATCH", path, body=body, content_type=_MERGE)

    def scale(self, replicas: int) -> None:
        """Set the sample's replicas through the subresource ``scale``."""
        self.patch(DEPLOYMENTS, self.name, {"spec": {"replicas": replicas}}, subresource="scale")

    def pod(
        self,
        name: str,
        container: Mapping[str, Any],
        *,
        labels: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """Create a pod with one container, of the programs' image unless it names another."""
        restricted = self.deployment["spec"]["template"]["spec"]
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": dict(labels or {})},
            "spec": {
                "securityContext": restricted.get("securityContext", {}),
                "terminationGracePeriodSeconds": 1,
                "containers": [
                    {
                        "name": "main",
                        "image": self.cluster.programs_image,
                        "imagePullPolicy": "IfNotPresent",
                        "securityContext": restricted["containers"][0].get("securityContext", {}),
                        **container,
                    }
                ],
                **spec,
            },
        }
        return self.create(PODS, manifest)

    def output(
        self,
        name: str,
        code: str,
        *arguments: str,
        container: Mapping[str, Any] | None = None,
        **pod: Any,
    ) -> list[str]:
        """Run Python *code* in a pod to its end and return the lines it has written.

        :param container: more of the container's fields
        :param pod: more of what `pod` takes
        """
        command = ["python", "-c", code, *arguments]
        self.pod(name, {"command": command, **(container or {})}, restartPolicy="Never", **pod)
        self.wait(
            PODS,
            lambda pods: pods.get(name, {}).get("status", {}).get("phase") == "Succeeded",
            f"pod {name} to succeed",
        )
        return self.api.logs(self.namespace, name).splitlines()

    # --- waiting

    def wait(
        self,
        where: Resource,
        condition: Callable[[dict[str, dict[str, Any]]], bool],
        what: str,
        *,
        selector: str = "",
    ) -> dict[str, dict[str, Any]]:
        """List, then watch, until *condition* holds for the objects by name; return them.

        :raises AssertionError: if it does not in time, with the objects' last states
        """
        deadline_s = time.monotonic() + self.timeout_s
        path = where.path(self.namespace)
        query = {"labelSelector": selector}
        listed = self.api.request("GET", path, query=query)
        found = {each["metadata"]["name"]: each for each in listed["items"]}
        query |= {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        while not condition(found):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise AssertionError(self._story(what, found))
            query["timeoutSeconds"] = str(max(1, round(left_s)))
            with self.api.stream(path, query=query, timeout_s=left_s + 10) as stream:
                for event in stream.events():
                    obj = event["object"]
                    assert event["type"] in {"ADDED", "MODIFIED", "DELETED"}, event
                    query["resourceVersion"] = obj["metadata"]["resourceVersion"]
                    found[obj["metadata"]["name"]] = obj
                    if event["type"] == "DELETED":
                        del found[obj["metadata"]["name"]]
                    if condition(found):
                        return found
        return found

    def event(self, name: str, reason: str, *, saying: str = "") -> dict[str, Any]:
        """Wait for an event about the object called *name*, and return it.

        :param saying: what its message contains; a kubelet has several of one reason
        """

        def matching(events: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
            return [
                each
                for each in events.values()
                if each["involvedObject"].get("name") == name
                and each["reason"] == reason
                and saying in each["message"]
            ]

        what = f"an event {reason} of {name}"
        return matching(self.wait(EVENTS, lambda events: bool(matching(events)), what))[-1]

    def _story(self, what: str, found: Mapping[str, Mapping[str, Any]]) -> str:
        lines = [f"{self.timeout_s:g} s in vain waited for {what}; last seen:"]
        for name, obj in found.items():
            lines.append(f"  {name}: {obj.get('status', '(no status)')}")
        for event in self.api.list(EVENTS, self.namespace)[-10:]:
            about = event["involvedObject"].get("name", "")
            lines.append(f"  {about}: {event['reason']}: {event['message']}")
        return "\n".join(lines)


def is_ready(obj: Mapping[str, Any]) -> bool:
    """Tell whether a pod is ready and stays."""
    return "deletionTimestamp" not in obj["metadata"] and condition(obj, "Ready") == "True"


def condition(obj: Mapping[str, Any], name: str) -> str:
    """Return the status of a condition of an object; empty: it has none of that name."""
    found = {each["type"]: each["status"] for each in obj.get("status", {}).get("conditions", ())}
    return str(found.get(name, ""))


def uids(objects: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Return the UIDs of objects."""
    return {obj["metadata"]["uid"] for obj in objects.values()}

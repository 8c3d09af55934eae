"""What the Envoy beside the driver says of itself, by its admin interface.

:source: Envoy documentation, "Administration interface"
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from contextlib import ExitStack

    from pytest_grpclb.clusters import Cluster
    from pytest_grpclb.clusters.pods.watch import PodState
    from pytest_grpclb.model import Manifest

__all__ = ["Sidecar", "admin_port", "open_sidecar"]

_ADMIN_PORT = "envoy-admin"
_TIMEOUT_S = 5.0
_PAUSE_S = 0.01
# A change of the hosts, or a call that was sent again, shifts a worker's round.
_SHIFTS = r"^cluster\..*\.(membership_change|upstream_rq_retry)$"
# Bytes of its logs that are not written yet.
_UNWRITTEN = r"^filesystem\.write_total_buffered$"


def admin_port(manifests: Iterable[Manifest]) -> int | None:
    """Return the container port named "envoy-admin" of the driver's pod; None: it has no Envoy."""
    for manifest in manifests:
        labels = manifest["metadata"].get("labels", {})
        if (
            manifest["kind"] != "Deployment"
            or labels.get("app.kubernetes.io/component") != "driver"
        ):
            continue
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            for port in container.get("ports", ()):
                if port.get("name") == _ADMIN_PORT:
                    return int(port["containerPort"])
    return None


@dataclass(frozen=True, slots=True)
class Sidecar:
    """An Envoy whose admin interface this process can reach; every question is asked anew."""

    address: str
    """ "host:port" of the admin interface."""

    def workers(self) -> int | None:
        """Return how many workers pick backends, each by itself; None: it does not say."""
        try:
            told = json.loads(self._get("/server_info"))
            return int(told["command_line_options"]["concurrency"])
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None

    def shifts(self) -> int | None:
        """Return how often something has shifted the workers' rounds; None: it does not say."""
        try:
            told = json.loads(self._get(f"/stats?format=json&filter={_SHIFTS}"))
            values = [int(each["value"]) for each in told["stats"]]
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            return None
        return sum(values) if values else None

    def wait_logged(self, timeout_s: float) -> None:
        """Wait until its log tells of all calls that have ended; return as well if it does not."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            try:
                told = json.loads(self._get(f"/stats?format=json&filter={_UNWRITTEN}"))
                unwritten = sum(int(each["value"]) for each in told["stats"])
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                return
            if not unwritten:
                return
            time.sleep(_PAUSE_S)

    def wait_hosts(self, wanted: Collection[str], timeout_s: float) -> None:
        """Wait until the hosts of some cluster are just those that are *wanted*, "ip:port" each.

        It returns as well if they are not by then: the calls will show what that means.
        """
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            try:
                clusters = json.loads(self._get("/clusters?format=json"))["cluster_statuses"]
            except (OSError, http.client.HTTPException, ValueError, KeyError):
                return
            if any(_hosts(cluster) == set(wanted) for cluster in clusters):
                return
            time.sleep(_PAUSE_S)

    def files(self) -> dict[str, str]:
        """Return what explains its doings, by file name: configuration, hosts, counters."""
        pages = {
            "envoy-config.json": "/config_dump?include_eds",
            "envoy-clusters.txt": "/clusters",
            "envoy-stats.txt": "/stats?usedonly",
        }
        return {name: self._told(path) for name, path in pages.items()}

    def _told(self, path: str) -> str:
        try:
            return self._get(path)
        except (OSError, http.client.HTTPException) as error:
            return f"(Envoy's admin interface at {self.address} does not answer: {error})"

    def _get(self, path: str) -> str:
        """Return what a page says.

        :raises OSError: if it cannot be reached, or has no such page
        """
        connection = http.client.HTTPConnection(self.address, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read().decode(errors="replace")
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"GET {path}: {response.status} {response.reason}")
        return body


def open_sidecar(
    stack: ExitStack,
    cluster: Cluster,
    manifests: Sequence[Manifest],
    *,
    namespace: str,
    pod: PodState,
) -> Sidecar | None:
    """Return the Envoy beside the driver; None: it has none.

    :param stack: takes the way to it, to be closed afterwards
    :param manifests: those that the driver is among
    :param pod: the driver's
    """
    port = admin_port(manifests)
    if port is None:
        return None
    reached = cluster.reach(namespace, pod.name, pod.address, port)
    return Sidecar(stack.enter_context(reached))


def _hosts(cluster: Any) -> set[str]:
    places = (each["address"].get("socket_address") for each in cluster.get("host_statuses", ()))
    return {f"{place['address']}:{place['port_value']}" for place in places if place}

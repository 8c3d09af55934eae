"""One pod from its start to its end.

:source: Kubernetes documentation, "Pod Lifecycle", "Termination of Pods", "Sidecar Containers"
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.node.container import Container
from pytest_grpclb.clusters.embedded.node.environment import ConfigError
from pytest_grpclb.clusters.embedded.node.podstatus import pod_status
from pytest_grpclb.clusters.embedded.node.sandbox import Sandbox, unless
from pytest_grpclb.clusters.embedded.node.volumes import PodDirectory
from pytest_grpclb.clusters.embedded.store.status import StatusError

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.node.node import Node
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["PodWorker"]

_VOLUME_RETRY_S = 0.5
"""What a volume is made from may be created after the pod."""


class PodWorker:
    """Runs a pod's containers and says in its status how they are."""

    def __init__(self, node: Node, pod: Object) -> None:
        self._node = node
        metadata, spec = pod["metadata"], pod["spec"]
        self.directory = PodDirectory(node.directory / metadata["uid"])
        self._sandbox = Sandbox(
            node=node,
            pod=pod,
            ip=node.addresses.take(),
            directory=self.directory,
            account={},
            changed=self._changed,
        )
        self._started_at = self._sandbox.now()
        policy = spec.get("restartPolicy") or "Always"
        once = "Never" if policy == "Never" else "OnFailure"
        self._init = [
            Container(self._sandbox, each, policy=each.get("restartPolicy") or once)
            for each in spec.get("initContainers") or ()
        ]
        self._main = [Container(self._sandbox, each, policy=policy) for each in spec["containers"]]
        if self._init:
            for container in self._main:
                container.state.state = {"waiting": {"reason": "PodInitializing"}}
        self._publishing = self._ended = False
        self._tasks = asyncio.TaskGroup()
        self._grace_s: float | None = None
        self._deadline: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Run the pod until it has ended; then, if it is being deleted, let go of it.

        If cancelled, the pod's processes are killed, and nothing is said of it any more.
        """
        sandbox = self._sandbox
        sidecars: list[tuple[Container, asyncio.Task[None]]] = []
        try:
            async with self._tasks as tasks:
                self._publish()  # containers may refer to its address
                if await self._prepare_volumes() and await self._initialize(sidecars):
                    await asyncio.wait([tasks.create_task(each.run()) for each in self._main])
                sandbox.stopping.set()
                for container, running in reversed(sidecars):
                    await container.stop()
                    await running
        finally:
            self._ended = True
            self._node.addresses.release(sandbox.ip)
            if self._deadline is not None:
                self._deadline.cancel()
        self._publish()
        if "deletionTimestamp" in sandbox.pod["metadata"]:
            metadata = sandbox.pod["metadata"]
            where = (metadata["name"], metadata["namespace"])
            self._node.store.delete("pods", *where, grace_s=0, uid=metadata["uid"])

    def update(self, pod: Object) -> None:
        """Take notice of the pod's new state in the store: it may have to end, or sooner."""
        sandbox = self._sandbox
        if _gates(pod) != _gates(sandbox.pod):
            self._changed()
        sandbox.pod = pod
        if self._ended or "deletionTimestamp" not in pod["metadata"]:
            return
        grace_s = pod["metadata"]["deletionGracePeriodSeconds"]
        if grace_s == self._grace_s:
            return
        self._grace_s = grace_s
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = asyncio.get_running_loop().call_later(grace_s, self._kill)
        if not sandbox.stopping.is_set():
            sandbox.stopping.set()
            # Sidecars serve the others to the end: `run` stops them last.
            for container in (*self._init, *self._main):
                if container in self._main or container.state.policy != "Always":
                    self._tasks.create_task(container.stop())

    def _kill(self) -> None:
        self._sandbox.killed.set()
        for container in (*self._init, *self._main):
            container.kill()

    async def _prepare_volumes(self) -> bool:
        """Make the volumes, waiting for what they are made from; return whether the pod goes on."""
        sandbox = self._sandbox
        while not sandbox.stopping.is_set():
            try:
                sandbox.account = self._node.account_files(sandbox.pod)
                self.directory.prepare(self._node.store, sandbox.pod, sandbox.account)
            except (ConfigError, OSError, StatusError) as error:
                sandbox.warning("FailedMount", f"MountVolume.SetUp failed: {error}")
                await unless(sandbox.stopping, asyncio.sleep(_VOLUME_RETRY_S))
            else:
                return True
        return False

    async def _initialize(self, sidecars: list[tuple[Container, asyncio.Task[None]]]) -> bool:
        """Run the init containers one after the other; return whether the others may start.

        :param sidecars: gets those that go on running beside the others
        """
        stopping = self._sandbox.stopping
        for container in self._init:
            if container.state.policy == "Always":
                sidecars.append((container, self._tasks.create_task(container.run())))
                await unless(stopping, container.has_started.wait())
            else:
                await container.run()
                if container.state.exit_code != 0:
                    return False
                container.state.ready = True
                self._changed()
            if stopping.is_set():
                return False
        for container in self._main:
            container.state.state = {"waiting": {"reason": "ContainerCreating"}}
        return not stopping.is_set()

    def _changed(self) -> None:
        """Have the status written soon, once for all that changes until then."""
        if not self._publishing:
            self._publishing = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        self._publishing = False
        store, metadata = self._node.store, self._sandbox.pod["metadata"]
        pod = store.find("pods", metadata["name"], metadata["namespace"])
        if pod is None or pod["metadata"]["uid"] != metadata["uid"]:
            return  # deleted by force
        status = pod_status(
            pod,
            init=[container.state for container in self._init],
            main=[container.state for container in self._main],
            ended=self._ended,
            now=self._sandbox.now(),
            started_at=self._started_at,
            ip=self._sandbox.ip,
            host_ip=self._node.address,
        )
        store.update_status("pods", {**pod, "status": status}, expect=None)


def _gates(pod: Object) -> dict[str, str]:
    """Return what is said of the pod's readiness gates."""
    kinds = {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    conditions = pod.get("status", {}).get("conditions") or ()
    return {each["type"]: each["status"] for each in conditions if each["type"] in kinds}

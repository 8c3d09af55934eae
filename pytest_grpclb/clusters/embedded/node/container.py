"""One container of a pod: its processes one after the other, its probes, its end.

:source: Kubernetes documentation, "Pod Lifecycle", "Container Lifecycle Hooks"; kubernetes,
    ``pkg/kubelet/kuberuntime``
"""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.node.environment import ConfigError
from pytest_grpclb.clusters.embedded.node.images import ImageError, port_of_calls
from pytest_grpclb.clusters.embedded.node.listening import (
    lead_to_private_port,
    listeners_of,
    until_listening,
)
from pytest_grpclb.clusters.embedded.node.orders import order_of
from pytest_grpclb.clusters.embedded.node.podstatus import ContainerState, terminated
from pytest_grpclb.clusters.embedded.node.probes import (
    Timing,
    asks_network,
    attempt,
    follow,
    run_hook,
    shared_by_pods,
)
from pytest_grpclb.clusters.embedded.node.processes import Process, StartError
from pytest_grpclb.clusters.embedded.node.sandbox import unless

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_grpclb.clusters.embedded.node.processes import Order
    from pytest_grpclb.clusters.embedded.node.sandbox import Sandbox
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = ["Container"]

_CONFIG_RETRY_S = 0.25
"""Config maps may be created after the pods that use them; the kubelet looks again as well."""
_GRACE = "terminationGracePeriodSeconds"
_START_ERROR = 128
"""Exit code of a container whose command could not be executed, as containerd reports it."""
_UNREACHED = re.compile(r"connection refused|failed to connect service")
_LISTENS_WITHIN_S = 5.0
"""How long a container that no probe asks at its port may keep its pod from being ready, until it
listens there. In Kubernetes it would be ready at once, and whoever has the port would answer."""
_OUTPUT_BYTES = 10 * 1024
"""What the kubelet keeps of a probe's output (``maxRespBodyLength``)."""


class Container:
    """Runs a container until it is not to be restarted any more.

    :param policy: its restart policy; an init container that is always restarted is a sidecar
    """

    def __init__(self, sandbox: Sandbox, spec: Object, *, policy: str) -> None:
        self._sandbox, self._spec = sandbox, spec
        self.state = ContainerState(name=spec["name"], image=spec.get("image", ""), policy=policy)
        self.has_started = asyncio.Event()
        """Set when it runs and its startup probe, if any, has succeeded."""
        self._process: Process | None = None
        self._checks_listener = False
        """Whether it is yet to be seen that the process listens on its pod's address alone."""
        self._shared = ""
        """Where it listens instead, if it does not."""
        self._ends = 0

    # --- its life

    async def run(self) -> None:
        """Run it, again and again as its policy says, until then or until the pod is stopping."""
        stopping = self._sandbox.stopping
        try:
            while not stopping.is_set():
                code = await self._live()
                if code is None or stopping.is_set() or not self._restarts(code):
                    return
                await self._back_off()
        finally:
            if self._process is not None:  # cut off: the pod was deleted by force
                self._process.signal(signal.SIGKILL, group=True)

    async def stop(self) -> None:
        """Ask its process to end: preStop hook, then SIGTERM."""
        process = self._process
        if process is None:
            return
        self._sandbox.normal("Killing", f"Stopping container {self.state.name}")
        hook = (self._spec.get("lifecycle") or {}).get("preStop")
        if hook:
            await unless(self._sandbox.killed, self._run_hook("PreStop", hook))
        process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End its processes at once."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL, group=True)

    def _restarts(self, code: int) -> bool:
        policy = self.state.policy
        return policy == "Always" or (policy == "OnFailure" and code != 0)

    async def _live(self) -> int | None:
        """Run one process; return its exit code, None if none was started because the pod ends."""
        order = await self._prepare()
        if order is None:
            return None
        state, sandbox = self.state, self._sandbox
        sandbox.normal("Created", f"Created container: {state.name}")
        for path, where in order.unnamed_mounts.items():
            sandbox.normal("MountedElsewhere", f"{path} lies at {where}, and nothing names it")
        try:
            process = await sandbox.node.processes.start(order)
        except StartError as error:
            now = sandbox.now()
            sandbox.warning("Failed", f"Error: {error}")
            self._ended(_START_ERROR, now, now, reason="StartError", message=str(error))
            return _START_ERROR
        self._process = process
        began_s, started_at = asyncio.get_running_loop().time(), sandbox.now()
        state.identity = (
            f"embedded://{sandbox.pod['metadata']['uid']}/{state.name}/{state.restarts}"
        )
        state.state = {"running": {"startedAt": started_at}}
        sandbox.normal("Started", f"Started container {state.name}")
        if sandbox.killed.is_set():
            self.kill()
        elif sandbox.stopping.is_set():  # it began to end while this one was being started
            process.signal(signal.SIGTERM)
        self._checks_listener, self._shared = not order.own and order.private_port is None, ""
        tasks = [asyncio.create_task(self._watch())]
        if order.private_port is not None:
            tasks.append(asyncio.create_task(self._lead_to(order.private_port)))
        try:
            await asyncio.wait([process.exited])
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self._process = None
        code = process.exited.result()
        if asyncio.get_running_loop().time() - began_s > sandbox.node.back_off.forgotten_s:
            self._ends = 0
        self._ended(code, started_at, sandbox.now())
        return code

    def _ended(
        self, code: int, started_at: str, finished_at: str, *, reason: str = "", message: str = ""
    ) -> None:
        state = self.state
        state.state = terminated(
            code,
            started_at=started_at,
            finished_at=finished_at,
            identity=state.identity,
            reason=reason,
            message=message,
        )
        state.ready = state.started = False
        self.has_started.clear()
        self._ends += 1
        self._sandbox.changed()

    async def _back_off(self) -> None:
        """Wait before the next start, the longer the more often it has ended."""
        state, sandbox = self.state, self._sandbox
        pause_s = sandbox.node.back_off.pause_s(self._ends)
        state.last, state.restarts = state.state, state.restarts + 1
        if pause_s:
            metadata = sandbox.pod["metadata"]
            which = f"{metadata['name']}_{metadata['namespace']}({metadata['uid']})"
            told = f"restarting failed container={state.name} pod={which}"
            self._wait_for("CrashLoopBackOff", f"back-off {pause_s:g}s {told}")
            sandbox.warning(
                "BackOff", f"Back-off restarting failed container {state.name} in pod {which}"
            )
            await unless(sandbox.stopping, asyncio.sleep(pause_s))

    def _wait_for(self, reason: str, message: str = "") -> None:
        waiting = {"reason": reason} | ({"message": message} if message else {})
        self.state.state = {"waiting": waiting}
        self._sandbox.changed()

    # --- what to run

    async def _prepare(self) -> Order | None:
        """Work out what to run; wait for what is missing. None: the pod ends meanwhile."""
        sandbox = self._sandbox
        image = self.state.image
        while not sandbox.stopping.is_set():
            try:
                order = order_of(sandbox, self._spec, run=self.state.restarts)
            except ImageError as error:
                # Never mended while the cluster runs: there is nowhere to pull it from.
                sandbox.warning("Failed", f'Failed to pull image "{image}": {error}')
                self._wait_for("ErrImageNeverPull", str(error))
                await sandbox.stopping.wait()
            except (ConfigError, OSError) as error:
                sandbox.warning("Failed", f"Error: {error}")
                self._wait_for("CreateContainerConfigError", str(error))
                await unless(sandbox.stopping, asyncio.sleep(_CONFIG_RETRY_S))
            else:
                sandbox.normal("Pulled", f'Container image "{image}" already present on machine')
                return order
        return None

    async def _lead_to(self, private_port: int) -> None:
        port = port_of_calls(self._spec)
        assert port is not None  # else the command line could not be filled in
        try:
            await lead_to_private_port((self._sandbox.ip, port), private_port)
        except OSError as error:
            self._sandbox.warning(
                "FailedToListen",
                f"cannot listen on {self._sandbox.ip}:{port}: {error.strerror or error}",
            )

    async def _run_command(self, command: list[str], timeout_s: float) -> tuple[int | None, str]:
        """Run a command as ``exec`` does; return exit code (None: cut off) and output."""
        name = f"{self.state.name}.exec"
        with self._sandbox.directory.scratch(name) as log:
            order = order_of(self._sandbox, self._spec, run=self.state.restarts, instead=command)
            order = replace(order, log=log)
            try:
                process = await self._sandbox.node.processes.start(order)
            except StartError as error:
                return _START_ERROR, str(error)
            try:
                done, _ = await asyncio.wait([process.exited], timeout=timeout_s)
            finally:
                process.signal(signal.SIGKILL, group=True)
            with log.open("rb") as reader:
                output = reader.read(_OUTPUT_BYTES).decode(errors="replace").strip()
            return process.exited.result() if done else None, output

    async def _run_hook(self, name: str, hook: Object) -> bool:
        """Run a lifecycle hook; return whether it succeeded. A failure is an event, too.

        :source: Kubernetes documentation, "Container Lifecycle Hooks"
        """
        forever_s = float(self._sandbox.pod["metadata"].get("deletionGracePeriodSeconds", 3600))
        failure = await run_hook(
            hook, self._spec, self._sandbox.ip, run=self._run_command, timeout_s=forever_s
        )
        if failure:
            self._sandbox.warning(f"Failed{name}Hook", f"{name}Hook failed: {failure}")
        return not failure

    # --- probes

    async def _watch(self) -> None:
        """Follow the running process with what probes it has."""
        spec, state = self._spec, self.state
        hook = (spec.get("lifecycle") or {}).get("postStart")
        if hook and not await self._run_hook("PostStart", hook):
            self._end_process()
            return
        if "startupProbe" in spec:
            await self._follow("startup", self._on_startup, eager=True)
            if not state.started:
                return
        async with asyncio.TaskGroup() as probing:
            if self._checks_listener and not asks_network(spec):
                looking = probing.create_task(self._look_for_listener())
                await asyncio.wait([looking], timeout=_LISTENS_WITHIN_S)
                if self._shared:
                    return
            state.started = True
            self.has_started.set()
            state.ready = "readinessProbe" not in spec
            self._sandbox.changed()
            if "readinessProbe" in spec:
                probing.create_task(self._follow("readiness", self._on_ready, eager=True))
            if "livenessProbe" in spec:
                probing.create_task(self._follow("liveness", self._on_alive, eager=False))

    async def _look_for_listener(self) -> None:
        """Find out who answers at the pod's port, where no probe asks there."""
        port, process = port_of_calls(self._spec), self._process
        if port is None or process is None:
            return
        self._shared = await until_listening(process.pid, (self._sandbox.ip, port))
        if self._shared:
            self._sandbox.warning("SharedPort", self._shared)
            self._on_ready(False)

    def _on_failure(self, name: str, why: str) -> None:
        """Tell of a probe's failure, and where the process listens if not where it was asked."""
        self._sandbox.warning("Unhealthy", f"{name.capitalize()} probe failed: {why}")
        if not self._checks_listener or not _UNREACHED.search(why) or self._process is None:
            return
        listeners = sorted(listeners_of(self._process.pid))
        # Who is there and not reached by gRPC wants TLS.
        there = any(re.search(rf"\b{re.escape(each)}\b", why) for each in listeners)
        if listeners and not there:
            self._sandbox.warning("ListensElsewhere", f"it listens on {', '.join(listeners)} only")

    async def _follow(self, name: str, on_result: Callable[[bool], bool], *, eager: bool) -> None:
        probe = self._spec[f"{name}Probe"]

        async def try_once() -> str:
            failure = await attempt(
                probe,
                self._spec,
                self._sandbox.ip,
                processes=self._sandbox.node.processes,
                run=self._run_command,
            )
            if not failure and self._checks_listener:
                self._checks_listener = False
                self._shared = shared_by_pods(probe, self._spec, self._sandbox.ip)
                if self._shared:  # said at once: others fail for want of the port meanwhile
                    self._sandbox.warning("SharedPort", self._shared)
            return failure or self._shared

        await follow(
            Timing.of(probe),
            try_once,
            eager=eager,
            on_failure=lambda why: self._on_failure(name, why),
            on_result=on_result,
        )

    def _on_startup(self, success: bool) -> bool:
        self.state.started = success
        if not success:
            self._restart("startup")
        return False

    def _on_ready(self, success: bool) -> bool:
        success = success and not self._shared
        if self.state.ready != success:
            self.state.ready = success
            self._sandbox.changed()
        return True

    def _on_alive(self, success: bool) -> bool:
        if self._sandbox.stopping.is_set():
            return False  # it is ending anyway, and may well look dead while it does
        if not success:
            self._restart("liveness")
        return success

    def _restart(self, probe: str) -> None:
        """Have the process end for failing a probe; `run` starts the next one."""
        name, grace_s = self.state.name, self._spec[f"{probe}Probe"].get(_GRACE)
        self._sandbox.normal("Killing", f"Container {name} failed {probe} probe, will be restarted")
        self._end_process(grace_s)

    def _end_process(self, grace_s: float | None = None) -> None:
        """Send SIGTERM, and SIGKILL after the grace, by default the pod's."""
        process = self._process
        if process is None:
            return
        if grace_s is None:
            grace_s = self._sandbox.pod["spec"].get(_GRACE, 30)
        process.signal(signal.SIGTERM)
        end = asyncio.get_running_loop().call_later(
            grace_s, lambda: process.signal(signal.SIGKILL, group=True)
        )
        process.exited.add_done_callback(lambda _: end.cancel())

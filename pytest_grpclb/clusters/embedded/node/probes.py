"""Probes: whether a container has started, is alive, is ready.

One thing is quicker than in Kubernetes: until a startup or readiness probe succeeds for the first
time, it is tried again after `EAGER_S` instead of its period, so that nobody waits for a pod that
is there. Failures meanwhile count once a period, so a threshold takes as long to reach as it
should. And where nothing listens, a gRPC probe is told so at once; the kubelet dials until its
time is up. What is said of either is the same.

:source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes"; kubernetes,
    ``pkg/kubelet/prober/worker.go`` and ``pkg/probe`` (the messages); Go, ``net/http`` and
    ``time.Duration`` (their parts)
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_grpclb.clusters.embedded.node.listening import shared_listener, told_of_shared

if TYPE_CHECKING:
    from pytest_grpclb.clusters.embedded.node.processes import Processes
    from pytest_grpclb.clusters.embedded.store.watch import Object

__all__ = [
    "EAGER_S",
    "RunCommand",
    "Timing",
    "asks_network",
    "attempt",
    "follow",
    "go_duration",
    "http_get",
    "port_of",
    "run_hook",
    "shared_by_pods",
    "unconnected",
]

EAGER_S = 0.02

RunCommand = Callable[[list[str], float], Awaitable[tuple[int | None, str]]]
"""Runs a command in a container for at most so long: exit code (None: cut off) and output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When a probe is tried, and how many results in a row count."""

    initial_delay_s: float
    period_s: float
    timeout_s: float
    successes: int
    failures: int

    @classmethod
    def of(cls, probe: Object) -> Timing:
        """Read a probe's timing; what it does not say is as Kubernetes has it."""
        return cls(
            initial_delay_s=probe.get("initialDelaySeconds") or 0,
            period_s=probe.get("periodSeconds") or 10,
            timeout_s=probe.get("timeoutSeconds") or 1,
            successes=probe.get("successThreshold") or 1,
            failures=probe.get("failureThreshold") or 3,
        )


async def follow(
    timing: Timing,
    try_once: Callable[[], Awaitable[str]],
    *,
    eager: bool,
    on_failure: Callable[[str], None],
    on_result: Callable[[bool], bool],
) -> None:
    """Try a probe again and again.

    :param try_once: returns why it failed, or nothing
    :param eager: hurry until the first success
    :param on_failure: told of each failure that counts
    :param on_result: told when a threshold is reached; returns whether to go on
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(timing.initial_delay_s)
    successes = failures = 0
    counted_at = loop.time() if eager else float("-inf")
    while True:
        began = loop.time()
        failure = await try_once()
        now = loop.time()
        if not failure:
            eager, failures, successes = False, 0, successes + 1
            if successes >= timing.successes and not on_result(True):
                return
        elif now - counted_at >= timing.period_s or not eager:
            counted_at, successes, failures = now, 0, failures + 1
            on_failure(failure)
            if failures >= timing.failures and not on_result(False):
                return
        # Hurrying, too, takes at most half of a loaded machine's time.
        pause_s = max(EAGER_S, now - began) if eager else timing.period_s
        await asyncio.sleep(pause_s)


def port_of(container: Object, port: Any) -> int:
    """Return a port's number, also for one that is named.

    :raises ValueError: if the container has no port of that name
    """
    if isinstance(port, int):
        return port
    ports = container.get("ports") or ()
    for each in ports:
        if each.get("name") == port:
            number: int = each["containerPort"]
            return number
    if str(port).isdecimal():
        return int(port)
    known = ", ".join(each.get("name", "(unnamed)") for each in ports) or "none"
    raise ValueError(f"couldn't find port: {port!r}; the container has: {known}")


async def attempt(
    probe: Object, container: Object, ip: str, *, processes: Processes, run: RunCommand
) -> str:
    """Try a probe once; return why it failed, or nothing."""
    timeout_s = probe.get("timeoutSeconds") or 1
    try:
        if "grpc" in probe:
            what = probe["grpc"]
            place = (ip, port_of(container, what["port"]))
            return await _check_grpc(processes, place, what.get("service") or "", timeout_s)
        if "tcpSocket" in probe:
            what = probe["tcpSocket"]
            host, port = what.get("host") or ip, port_of(container, what["port"])
            refused = await _connect((host, port), timeout_s)
            return refused and f"dial tcp {host}:{port}: {refused}"
        if "httpGet" in probe:
            return await http_get(probe["httpGet"], container, ip, timeout_s)
        return await _check_command(run, probe["exec"]["command"], timeout_s)
    except ValueError as error:
        return str(error)


def asks_network(container: Object) -> bool:
    """Tell whether a container is not ready before something has been reached at its pod."""
    probes = [container[name] for name in ("startupProbe", "readinessProbe") if name in container]
    return any(way in probe for probe in probes for way in ("grpc", "tcpSocket", "httpGet"))


def shared_by_pods(probe: Object, container: Object, ip: str) -> str:
    """Return why a probe that has succeeded says nothing of its own pod, or nothing.

    Whoever listens on all addresses answers for every pod of this machine.
    """
    what = next((probe[way] for way in ("grpc", "tcpSocket", "httpGet") if way in probe), None)
    if what is None or what.get("host"):
        return ""
    port = port_of(container, what["port"])
    shared = shared_listener((ip, port))
    return shared and told_of_shared((ip, port), shared)


async def _check_grpc(
    processes: Processes, place: tuple[str, int], service: str, timeout_s: float
) -> str:
    target = f"{place[0]}:{place[1]}"
    # Cheaper than gRPC's own attempt, and most attempts are made before a server listens.
    if await _connect(place, timeout_s):
        return unconnected(target, timeout_s)
    return await processes.check_health(target, service, timeout_s)


def unconnected(target: str, timeout_s: float) -> str:
    """Return what a gRPC probe says that has found nobody, or nobody who speaks HTTP/2."""
    told = f'failed to connect service "{target}" within {go_duration(timeout_s)}'
    return f"timeout: {told}: context deadline exceeded"


def go_duration(seconds: float) -> str:
    """Write a time span as Go does."""
    hours, minutes = int(seconds // 3600), int(seconds // 60 % 60)
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{hours}h" * (hours > 0) + f"{minutes}m" * (seconds >= 60) + f"{seconds % 60:g}s"


async def _check_command(run: RunCommand, command: list[str], timeout_s: float) -> str:
    code, output = await run(command, timeout_s)
    if code is None:
        return f"command {command!r} timed out after {timeout_s:g}s"
    return "" if code == 0 else output or f"exit code {code}"


async def _connect(place: tuple[str, int], timeout_s: float) -> str:
    """Connect and hang up; return why that failed, or nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(connection, place)
        except TimeoutError:
            return "i/o timeout"
        except OSError as error:
            return f"connect: {os.strerror(error.errno).lower() if error.errno else error}"
    return ""


async def run_hook(
    hook: Object, container: Object, ip: str, *, run: RunCommand, timeout_s: float
) -> str:
    """Do what a lifecycle hook says; return why that failed, or nothing.

    :param timeout_s: of a command
    """
    if "sleep" in hook:
        await asyncio.sleep(hook["sleep"]["seconds"])
    elif "exec" in hook:
        code, output = await run(hook["exec"]["command"], timeout_s)
        return "" if code == 0 else f"exit code {code}: {output}"
    elif "httpGet" in hook:
        try:
            return await http_get(hook["httpGet"], container, ip, 30.0)
        except ValueError as error:
            return str(error)
    return ""


async def http_get(what: Object, container: Object, ip: str, timeout_s: float) -> str:
    """Send a GET as an ``httpGet`` action says; return why that failed, or nothing.

    :raises ValueError: if the container has no port of the name given
    """
    host, port = what.get("host") or ip, port_of(container, what["port"])
    scheme, path = (what.get("scheme") or "HTTP").lower(), what.get("path") or "/"
    url = f"{scheme}://{host}:{port}/{path.lstrip('/')}"
    headers = {"Host": f"{host}:{port}", "User-Agent": "kube-probe", "Accept": "*/*"}
    headers |= {each["name"].title(): each["value"] for each in what.get("httpHeaders") or ()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"GET /{path.lstrip('/')} HTTP/1.1\r\n{head}Connection: close\r\n\r\n"
    secure = _without_verification() if scheme == "https" else None
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=secure)
            try:
                writer.write(request.encode())
                line = await reader.readline()
            finally:
                writer.transport.abort()
    except TimeoutError:
        late = "Client.Timeout exceeded while awaiting headers"
        return f'Get "{url}": context deadline exceeded ({late})'
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        return f'Get "{url}": dial tcp {host}:{port}: connect: {why}'
    if not line:
        return f'Get "{url}": EOF'
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        told = f"malformed HTTP response {_go_quoted(line)}"
        return f'Get "{url}": net/http: HTTP/1.x transport connection broken: {told}'
    code = int(words[1])
    return "" if 200 <= code < 400 else f"HTTP probe failed with statuscode: {code}"


def _go_quoted(line: bytes) -> str:
    shown = "".join(chr(each) if 32 <= each < 127 else f"\\x{each:02x}" for each in line.rstrip())
    return '"' + shown.replace('"', '\\"') + '"'


def _without_verification() -> ssl.SSLContext:
    """Return what the kubelet probes HTTPS with: it asks whether one answers, not who it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""The zygote and its prober as the cluster process sees them: start, signal, wait, check."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["Order", "Process", "Processes", "StartError", "Zygote"]

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_ENDING_S = 5.0
"""Killing some hundred processes takes well under a second; this much only on a stalled machine."""


class StartError(GrpclbError):
    """A container's process could not be started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A process to start: one of this package's own programs, or a command."""

    arguments: Sequence[str]
    own: bool
    """Whether *arguments* go to `pytest_grpclb.programs.main`; else the first is an executable."""
    environment: Mapping[str, str]
    directory: Path
    log: Path
    private_port: int | None = None
    """Where it listens in place of its pod's port; None: on that itself."""
    unnamed_mounts: Mapping[str, Path] = field(default_factory=dict)
    """Where those of its mounts lie that nothing in it names, by mount path."""


class Process:
    """A process that has been started."""

    def __init__(self, name: str, pid: int, owner: Processes) -> None:
        self._name, self._owner = name, owner
        self.pid = pid
        self.exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Done with the exit code once it has ended; negative: the signal that ended it."""

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to it, or to all processes that it started; nothing if it has ended."""
        if not self.exited.done():
            self._owner.tell(signal=self._name, number=number, group=group)

    async def kill(self) -> None:
        """Kill it and what it started, and wait for its end."""
        self.signal(signal.SIGKILL, group=True)
        await asyncio.wait([self.exited])


class Zygote:
    """The zygote's process, started as early as can be, before anything here has been imported."""

    def __init__(self, *, keep: Sequence[int] = ()) -> None:
        """Start it.

        :param keep: descriptors that it holds as well, for as long as it lives
        """
        self.control, control = socket.socketpair()
        self.prober, prober = socket.socketpair()
        self._popen = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "pytest_grpclb.clusters.embedded.node.zygote"),
                *(str(control.fileno()), str(prober.fileno())),
            ],
            stdin=subprocess.DEVNULL,
            pass_fds=(control.fileno(), prober.fileno(), *keep),
            # No at-fork handlers of gRPC's: no channel exists when it forks.
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"},
        )
        control.close()
        prober.close()

    def end(self) -> None:
        """Have it kill all that it started and end; return when it has."""
        self.control.close()
        self.prober.close()
        try:
            self._popen.wait(_ENDING_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Processes:
    """Starts processes through the zygote, and has it check the health of gRPC servers."""

    def __init__(self, orders: _Connection, questions: _Connection) -> None:
        self._told, self._orders = orders
        self._answers, self._questions = questions
        self._names = map(str, itertools.count())
        self._starting: dict[str, asyncio.Future[Process]] = {}
        self._running: dict[str, Process] = {}
        self._checks: dict[str, asyncio.Future[str]] = {}

    @classmethod
    async def of(cls, zygote: Zygote) -> Processes:
        """Connect with a zygote; it need not be ready yet."""
        return cls(
            await asyncio.open_connection(sock=zygote.control),
            await asyncio.open_connection(sock=zygote.prober),
        )

    async def serve(self) -> None:
        """Pass on what zygote and prober tell; return when one of them has gone."""
        following = [
            asyncio.create_task(_follow(self._told, self._take)),
            asyncio.create_task(_follow(self._answers, self._take_answer)),
        ]
        ended, others = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        for task in ended:
            task.result()

    def close(self) -> None:
        """Hang up: the zygote ends, with everything that it started, and `serve` returns."""
        self._orders.transport.abort()
        self._questions.transport.abort()

    async def start(self, order: Order) -> Process:
        """Start a process.

        :raises StartError: if there is no such command or directory, or no room for a process
        """
        name = next(self._names)
        started: asyncio.Future[Process] = asyncio.get_running_loop().create_future()
        self._starting[name] = started
        self.tell(
            start=name,
            **{"program" if order.own else "command": list(order.arguments)},
            env=dict(order.environment),
            directory=str(order.directory),
            log=str(order.log),
        )
        return await started

    async def check_health(self, target: str, service: str, timeout_s: float) -> str:
        """Return why the gRPC server at "ip:port" is not healthy, or nothing if it is."""
        name = next(self._names)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._checks[name] = told
        question = {"id": name, "target": target, "service": service, "timeout_s": timeout_s}
        self._questions.write(json.dumps(question).encode() + b"\n")
        return await told

    def tell(self, **order: object) -> None:
        """Give the zygote an order."""
        self._orders.write(json.dumps(order).encode() + b"\n")

    def _take(self, told: dict[str, Any]) -> None:
        if "started" in told:
            name = told["started"]
            process = self._running[name] = Process(name, told["pid"], self)
            started = self._starting.pop(name)
            if started.cancelled():
                process.signal(signal.SIGKILL, group=True)  # nobody waits for it any more
            else:
                started.set_result(process)
        elif "failed" in told:
            failed = self._starting.pop(told["failed"])
            if not failed.cancelled():
                failed.set_exception(StartError(told["message"]))
        else:
            self._running.pop(told["exited"]).exited.set_result(told["code"])

    def _take_answer(self, told: dict[str, Any]) -> None:
        check = self._checks.pop(told["id"])
        if not check.cancelled():
            check.set_result(told["failure"])


async def _follow(reader: asyncio.StreamReader, take: Callable[[dict[str, Any]], None]) -> None:
    try:
        while line := await reader.readline():
            take(json.loads(line))
    except ConnectionError:
        return

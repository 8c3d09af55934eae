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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_grpclb.errors import GrpclbError

__all__ = ["Order", "Process", "Processes", "StartError", "Zygote"]

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
                *(sys.executable, "-P", "-m", "pytest_grpclb.clusters.embedded.zygote"),
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

    def __init__(self, zygote: Zygote) -> None:
        self._zygote = zygote
        self._names = map(str, itertools.count())
        self._starting: dict[str, asyncio.Future[Process]] = {}
        self._running: dict[str, Process] = {}
        self._checks: dict[str, asyncio.Future[str]] = {}
        self._orders: asyncio.StreamWriter | None = None
        self._questions: asyncio.StreamWriter | None = None

    async def serve(self) -> None:
        """Pass on what the zygote tells; return when it has gone, and everything with it."""
        told, self._orders = await asyncio.open_connection(sock=self._zygote.control)
        answers, self._questions = await asyncio.open_connection(sock=self._zygote.prober)
        listening = asyncio.create_task(self._take_answers(answers))
        try:
            while line := await told.readline():
                self._take(json.loads(line))
        except ConnectionError:
            pass
        finally:
            listening.cancel()

    async def start(self, order: Order) -> Process:
        """Start a process.

        :raises StartError: if there is no such command or directory, or no room for a process
        """
        name = next(self._names)
        started = self._starting[name] = asyncio.get_running_loop().create_future()
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
        told = self._checks[name] = asyncio.get_running_loop().create_future()
        question = {"id": name, "target": target, "service": service, "timeout_s": timeout_s}
        assert self._questions is not None
        self._questions.write(json.dumps(question).encode() + b"\n")
        return await told

    def tell(self, **order: object) -> None:
        """Give the zygote an order."""
        assert self._orders is not None
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

    async def _take_answers(self, answers: asyncio.StreamReader) -> None:
        while line := await answers.readline():
            told = json.loads(line)
            check = self._checks.pop(told["id"])
            if not check.cancelled():
                check.set_result(told["failure"])
        for check in self._checks.values():
            check.cancel()

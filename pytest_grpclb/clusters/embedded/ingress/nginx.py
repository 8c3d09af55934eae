"""One nginx, its files and its log: looks at a configuration, starts, takes another one over."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
import re
import signal
import time
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.ingress.binary import ADVICE, find_nginx, too_old
from pytest_grpclb.clusters.embedded.node.processes import Order, StartError
from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places
    from pytest_grpclb.clusters.embedded.node.processes import Process, Processes

__all__ = ["REFUSED_S", "Nginx", "NginxError", "NginxRefusalError"]

_LOG = logging.getLogger(__name__)

_PAUSE_S = 0.01
_EFFECT_S = 10.0
"""nginx takes 0.1 s from one generation of workers to the next; this much only if it is stuck."""
_LOG_LINES = 10
_STAMP = re.compile(r"^[0-9/]+ [0-9:]+ (\[\w+\]) \d+#\d+", re.MULTILINE)
"""What each line of nginx's log begins with: time, level, process and thread."""
REFUSED_S = 10.0
"""A machine that is out of memory or files makes nginx refuse what it takes later."""
_CHECKS = 500
"""Of so many configurations it is kept in mind what nginx made of them."""


class NginxError(GrpclbError):
    """nginx cannot be started, or does not take its configuration."""


class NginxRefusalError(NginxError):
    """nginx does not take a configuration; says so in its own words."""


class Nginx:
    """One nginx, its files and its log."""

    def __init__(
        self, processes: Processes, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._processes, self._directory, self._environment = processes, directory, environment
        self._log = directory / "nginx.log"
        self._process: Process | None = None
        self._applied: tuple[str, dict[str, bytes]] | None = None
        self._checked: dict[bytes, tuple[str, float]] = {}
        """By digest of a configuration: what is wrong with it, or nothing, and until when that
        holds.
        """

    @property
    def running(self) -> bool:
        """Tell whether it was started and has not ended."""
        return self._process is not None and not self._process.exited.done()

    def does(self, text: str, keypairs: dict[str, bytes]) -> bool:
        """Tell whether that is what it was last told to do."""
        return self._applied == (text, keypairs)

    async def apply(self, text: str, keypairs: dict[str, bytes], places: Places) -> None:
        """Have nginx do as it is told; return when it does.

        :raises NginxError: if there is no nginx, or it does not start or take the configuration
        """
        if self.running and self.does(text, keypairs):
            return
        binary = await self.check(text, keypairs)
        self._write(text, keypairs)
        (self._directory / "nginx.conf.new").replace(self._directory / "nginx.conf")
        if self.running:
            await self._reload()
        else:
            await self._start(binary, places)
        self._applied = (text, keypairs)

    async def check(self, text: str, keypairs: dict[str, bytes]) -> Path:
        """Have nginx look at a configuration, unless it just has; return its binary.

        :raises NginxRefusalError: if it does not take it
        :raises NginxError: if there is no nginx, or it is too old
        """
        binary = find_nginx()
        if binary is None:
            raise NginxError(f"no nginx is on this machine; {ADVICE}")
        digest = hashlib.sha256(repr((text, sorted(keypairs.items()))).encode()).digest()
        wrong, until_s = self._checked.get(digest, ("", -math.inf))
        if time.monotonic() > until_s:
            self._write(text, keypairs)
            if len(self._checked) >= _CHECKS:
                self._checked.clear()
            wrong = await self._check(binary)
            until_s = time.monotonic() + REFUSED_S if wrong else math.inf
            self._checked[digest] = wrong, until_s
        if wrong:
            raise NginxRefusalError(wrong)
        return binary

    def _write(self, text: str, keypairs: Mapping[str, bytes]) -> None:
        for name in ("", "temp", "keypairs"):
            (self._directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, pem in keypairs.items():
            _write_private(self._directory / "keypairs" / f"{name}.pem", pem)
        _write_private(self._directory / "nginx.conf.new", text.encode())

    async def _check(self, binary: Path) -> str:
        log = self._directory / "nginx-test.log"
        log.unlink(missing_ok=True)
        process = await self._run(binary, "-t", "-c", "nginx.conf.new", log=log)
        code = await process.exited
        if not code:
            return ""
        told = _tail(log)
        await (await self._run(binary, "-v", log=log)).exited
        if version := too_old(_tail(log)):
            raise NginxError(
                f"{binary} is nginx {version}, which cannot follow the pods of a Service without "
                f"a reload; 1.27.3 and newer can; {ADVICE}"
            )
        told = _STAMP.sub(r"\1", told)  # so that the same comes to the same words
        return f"nginx does not take its configuration (exit code {code}):\n{told}"

    async def _start(self, binary: Path, places: Places) -> None:
        self._process = process = await self._run(binary, "-c", "nginx.conf", log=self._log)
        process.exited.add_done_callback(
            lambda exited: _LOG.info("nginx ended with exit code %d", exited.result())
        )
        while not await _accepts(places.https):
            if process.exited.done():
                raise NginxError(
                    f"nginx ended with exit code {process.exited.result()} when it was started:\n"
                    f"{_tail(self._log)}"
                )
            await asyncio.sleep(_PAUSE_S)

    async def _reload(self) -> None:
        """Have new workers take over, and wait until the old ones have stopped listening.

        :source: nginx documentation, "Controlling nginx", changing configuration
        """
        assert self._process is not None
        before = self._log.stat().st_size
        old = _last_worker(self._log.read_text(errors="replace"))
        self._process.signal(signal.SIGHUP)
        over = re.compile(rf"{old}#{old}: (gracefully shutting down|exit)".encode())
        deadline_s = time.monotonic() + _EFFECT_S
        while time.monotonic() < deadline_s and self.running:
            if over.search(self._log.read_bytes(), before):
                return
            await asyncio.sleep(_PAUSE_S)
        raise NginxError(
            f"nginx did not change its workers within {_EFFECT_S:g} s:\n{_tail(self._log)}"
        )

    async def _run(self, binary: Path, *arguments: str, log: Path) -> Process:
        order = Order(
            arguments=(str(binary), "-p", str(self._directory), "-e", "stderr", *arguments),
            own=False,
            environment=self._environment,
            directory=self._directory,
            log=log,
        )
        try:
            return await self._processes.start(order)
        except StartError as error:
            raise NginxError(f"{binary} cannot be started: {error}") from error


def _write_private(path: Path, content: bytes) -> None:
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    part.replace(path)


async def _accepts(place: tuple[str, int]) -> bool:
    try:
        _, writer = await asyncio.open_connection(*place)
    except OSError:
        return False
    writer.close()
    return True


def _last_worker(log: str) -> str:
    started: list[str] = re.findall(r"start worker process (\d+)", log)
    return started[-1]


def _tail(log: Path) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return "(it has no log)"

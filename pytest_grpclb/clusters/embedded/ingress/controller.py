"""The ingress controller at work: follows the store, writes nginx's files, starts and reloads it.

Nothing is started before an Ingress of class nginx exists. nginx is reloaded when Ingresses or
certificates change; of pods that come and go it learns by `EndpointNames`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import re
import signal
import time
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.ingress.binary import ADVICE, find_nginx, too_old
from pytest_grpclb.clusters.embedded.network.nameserver import NameServer
from pytest_grpclb.clusters.embedded.network.network import DNS_PORT, listen
from pytest_grpclb.clusters.embedded.node.processes import Order, StartError
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.status import StatusError
from pytest_grpclb.errors import GrpclbError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.ingress.configuration import Place, ServicePort
    from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places
    from pytest_grpclb.clusters.embedded.ingress.translate import Note
    from pytest_grpclb.clusters.embedded.node.processes import Process, Processes
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["IngressController"]

_LOG = logging.getLogger(__name__)

_BETWEEN_RELOADS_S = 0.2
"""Changes come in bursts, and each reload makes clients connect anew."""
_PAUSE_S = 0.01
_EFFECT_S = 10.0
"""nginx takes 0.1 s from one generation of workers to the next; this much only if it is stuck."""
_LOG_LINES = 10


class NginxError(GrpclbError):
    """nginx cannot be started, or does not take its configuration."""


class IngressController:
    """Has one nginx do what the Ingresses of class nginx ask for."""

    def __init__(
        self,
        store: Store,
        processes: Processes,
        *,
        directory: Path,
        places: Places,
        environment: Mapping[str, str],
    ) -> None:
        from pytest_grpclb.clusters.embedded.controllers.endpointslices import SLICES

        self._store, self._places = store, places
        self._recorder = Recorder(store, "nginx-ingress-controller")
        self._nginx = _Nginx(processes, directory, environment)
        self._fake = b""
        self._said: set[tuple[str, str]] = set()
        self._users: Mapping[ServicePort, Sequence[Object]] = {}
        self._names: Place | None = None
        self._due = asyncio.Event()
        store.create(
            _CLASSES,
            {"metadata": {"name": "nginx"}, "spec": {"controller": "k8s.io/ingress-nginx"}},
        )
        kinds = (_INGRESSES, _CLASSES, "services", SLICES, "secrets")
        store.subscribe(kinds, self._observe)
        self._working = asyncio.get_running_loop().create_task(self._work(), name="ingress")

    def close(self) -> None:
        """Do nothing any more; nginx itself is the zygote's to end."""
        self._working.cancel()

    def _observe(self, event: Event) -> None:
        # Whatever else changes, it concerns nobody before there is an Ingress.
        if event.object["kind"] == "Ingress" or self._store.list(_INGRESSES):
            self._due.set()

    async def _work(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                reloaded = await self._sync()
            except Exception:  # noqa: BLE001 - one bad round must not end the controller
                _LOG.exception("ingress: a round of the controller failed")
                reloaded = True
            if reloaded:
                await asyncio.sleep(_BETWEEN_RELOADS_S)

    async def _sync(self) -> bool:
        """Have nginx do what is wanted; tell whether it had to be started or reloaded for that."""
        # Imported here: a cluster without an Ingress has no use for them.
        from pytest_grpclb.clusters.embedded.ingress.fake import fake_keypair
        from pytest_grpclb.clusters.embedded.ingress.nginx_conf import FAKE_KEYPAIR, nginx_conf
        from pytest_grpclb.clusters.embedded.ingress.translate import translate

        told = translate(self._store)
        if not told.ingresses and not self._nginx.running:
            return False
        self._users = told.users
        names = await self._answer_names()
        self._fake = self._fake or fake_keypair(self._store.now()).pem
        text = nginx_conf(told.configuration, places=self._places, names=names, user=_user())
        keypairs = {**told.configuration.keypairs, FAKE_KEYPAIR: self._fake}
        same = self._nginx.running and self._nginx.does(text, keypairs)
        if self._nginx.running and not same:
            message = "NGINX reload triggered due to a change in configuration"
            for ingress in told.ingresses:
                self._recorder.normal(ingress, "RELOAD", message)
        try:
            await self._nginx.apply(text, keypairs, self._places)
        except NginxError as error:
            for ingress in told.ingresses:
                self._recorder.warning(ingress, "NginxFailed", str(error))
            return True
        self._tell(told.notes)
        for ingress in told.ingresses:
            self._publish(ingress)
        return not same

    async def _answer_names(self) -> Place:
        """Answer for the names that nginx's upstreams have; return where."""
        if self._names is None:
            from pytest_grpclb.clusters.embedded.ingress.endpoints import EndpointNames

            address, _ = self._places.http
            purpose = "the ingress (names)"
            stream, datagrams = listen(address, DNS_PORT, purpose=purpose, datagrams=True)
            zone = EndpointNames(self._store, nowhere=address, told=self._follow)
            await NameServer(zone).serve(stream, datagrams)
            self._names = datagrams.getsockname()
        return self._names

    def _follow(self, port: ServicePort, endpoints: int) -> None:
        """Record that nginx goes over to other endpoints, from this moment on."""
        message = f"NGINX follows Service {port.service!r}: ready endpoints: {endpoints}"
        for ingress in self._users.get(port, ()):
            self._recorder.normal(ingress, "ENDPOINTS", message)

    def _tell(self, notes: Iterable[Note]) -> None:
        """Record what is new among *notes*; what no longer holds may be said again later."""
        said = set()
        for note in notes:
            key = (note.ingress["metadata"]["uid"], note.message)
            said.add(key)
            if key not in self._said:
                self._recorder.warning(note.ingress, note.reason, note.message)
        self._said = said

    def _publish(self, ingress: Object) -> None:
        """Write the address that an Ingress can be reached at into its status."""
        address = self._places.http[0]
        ports = [
            {"port": place[1], "protocol": "TCP"}
            for place in (self._places.http, self._places.https)
        ]
        status = {"loadBalancer": {"ingress": [{"ip": address, "ports": ports}]}}
        if ingress.get("status") == status:
            return
        try:
            self._store.update_status(_INGRESSES, {**ingress, "status": status}, expect=None)
        except StatusError:
            return  # it is gone
        namespace, name = ingress["metadata"]["namespace"], ingress["metadata"]["name"]
        self._recorder.normal(ingress, "Sync", f"Scheduled for sync: {namespace}/{name}")


class _Nginx:
    """One nginx, its files and its log."""

    def __init__(
        self, processes: Processes, directory: Path, environment: Mapping[str, str]
    ) -> None:
        self._processes, self._directory, self._environment = processes, directory, environment
        self._log = directory / "nginx.log"
        self._process: Process | None = None
        self._applied: tuple[str, dict[str, bytes]] | None = None

    @property
    def running(self) -> bool:
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
        binary = find_nginx()
        if binary is None:
            raise NginxError(f"no nginx is on this machine; {ADVICE}")
        self._write(text, keypairs)
        await self._check(binary)
        (self._directory / "nginx.conf.new").replace(self._directory / "nginx.conf")
        if self.running:
            await self._reload()
        else:
            await self._start(binary, places)
        self._applied = (text, keypairs)

    def _write(self, text: str, keypairs: Mapping[str, bytes]) -> None:
        for name in ("", "temp", "keypairs"):
            (self._directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, pem in keypairs.items():
            _write_private(self._directory / "keypairs" / f"{name}.pem", pem)
        _write_private(self._directory / "nginx.conf.new", text.encode())

    async def _check(self, binary: Path) -> None:
        log = self._directory / "nginx-test.log"
        log.unlink(missing_ok=True)
        process = await self._run(binary, "-t", "-c", "nginx.conf.new", log=log)
        code = await process.exited
        if not code:
            return
        told = _tail(log)
        await (await self._run(binary, "-v", log=log)).exited
        if version := too_old(_tail(log)):
            raise NginxError(
                f"{binary} is nginx {version}, which cannot follow the pods of a Service without "
                f"a reload; 1.27.3 and newer can; {ADVICE}"
            )
        raise NginxError(f"nginx does not take its configuration (exit code {code}):\n{told}")

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


_INGRESSES = "ingresses.networking.k8s.io"
_CLASSES = "ingressclasses.networking.k8s.io"


def _user() -> str:
    """Return whom workers run as: nginx makes them another user where it is started by root, and
    that one could not read below the cluster's directory.
    """
    return pwd.getpwuid(0).pw_name if os.geteuid() == 0 else ""


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

"""The ingress controller at work: follows the store, tells nginx what to do, says what came of it.

Nothing is started before an Ingress of class nginx exists. nginx is reloaded when Ingresses or
certificates change; of pods that come and go it learns by `EndpointNames`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from typing import TYPE_CHECKING

from pytest_grpclb.clusters.embedded.ingress.nginx import (
    REFUSED_S,
    Nginx,
    NginxError,
    NginxRefusalError,
)
from pytest_grpclb.clusters.embedded.network.nameserver import NameServer
from pytest_grpclb.clusters.embedded.network.network import DNS_PORT, listen
from pytest_grpclb.clusters.embedded.store.recorder import Recorder
from pytest_grpclb.clusters.embedded.store.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_grpclb.clusters.embedded.ingress.configuration import Place, ServicePort
    from pytest_grpclb.clusters.embedded.ingress.nginx_conf import Places
    from pytest_grpclb.clusters.embedded.ingress.translate import Note, Translation
    from pytest_grpclb.clusters.embedded.node.processes import Processes
    from pytest_grpclb.clusters.embedded.store.store import Store
    from pytest_grpclb.clusters.embedded.store.watch import Event, Object

__all__ = ["IngressController"]

_LOG = logging.getLogger(__name__)

_BETWEEN_RELOADS_S = 0.2
"""Changes come in bursts, and each reload makes clients connect anew."""


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
        self._nginx = Nginx(processes, directory, environment)
        self._fake = b""
        self._said: set[tuple[str, str]] = set()
        self._refused: set[tuple[str, str]] = set()
        self._users: Mapping[ServicePort, Sequence[Object]] = {}
        self._names: Place | None = None
        self._due = asyncio.Event()
        self._failed = False
        """Whether nginx does not do what is wanted; it is tried again, as what it refuses."""
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
            self._failed = False
            try:
                reloaded = await self._sync()
            except Exception:  # noqa: BLE001 - one bad round must not end the controller
                _LOG.exception("ingress: a round of the controller failed")
                reloaded = self._failed = True
            if self._failed or self._refused:
                asyncio.get_running_loop().call_later(REFUSED_S, self._due.set)
            if reloaded:
                await asyncio.sleep(_BETWEEN_RELOADS_S)

    async def _sync(self) -> bool:
        """Have nginx do what is wanted; tell whether it had to be started or reloaded for that."""
        # Imported here: a cluster without an Ingress has no use for it.
        from pytest_grpclb.clusters.embedded.ingress.translate import translate

        told = translate(self._store)
        if not told.ingresses and not self._nginx.running:
            return False
        names = await self._answer_names()
        every = told.ingresses
        try:
            told = await self._taken(told, names)
            self._users = told.users
            text, keypairs = self._files(told, names)
            same = self._nginx.running and self._nginx.does(text, keypairs)
            if self._nginx.running and not same:
                message = "NGINX reload triggered due to a change in configuration"
                for ingress in told.ingresses:
                    self._recorder.normal(ingress, "RELOAD", message)
            await self._nginx.apply(text, keypairs, self._places)
        except NginxError as error:
            for ingress in every:
                self._recorder.warning(ingress, "NginxFailed", str(error))
            self._failed = True
            return True
        self._tell(told.notes)
        for ingress in told.ingresses:
            self._publish(ingress)
        return not same

    async def _taken(self, every: Translation, names: Place) -> Translation:
        """Return what nginx takes: *every* Ingress, or all but those that it refuses.

        Its configuration is one file, so that one Ingress would keep all others out. In a real
        cluster the controller's admission webhook, where there is one, tries the file as well and
        does not let such an Ingress in. The older ones come first.

        :raises NginxError: if it is no Ingress's fault
        :source: ingress-nginx v1.15.1, internal/ingress/controller/controller.go, CheckIngress
        """
        from pytest_grpclb.clusters.embedded.ingress.translate import translate

        said, self._refused = self._refused, set()
        if not await self._refusal(every, names):
            return every
        taken: set[str] = set()
        found = translate(self._store, only=taken)
        if refused := await self._refusal(found, names):
            raise refused
        for ingress in every.ingresses:
            uid = ingress["metadata"]["uid"]
            tried = translate(self._store, only={*taken, uid})
            if refused := await self._refusal(tried, names):
                self._refused.add((uid, str(refused)))
                if (uid, str(refused)) not in said:
                    message = f"this Ingress is left out: {refused}"
                    self._recorder.warning(ingress, "NginxFailed", message)
                self._publish(ingress, served=False)
            else:
                taken.add(uid)
                found = tried
        return found

    async def _refusal(self, told: Translation, names: Place) -> NginxRefusalError | None:
        try:
            await self._nginx.check(*self._files(told, names))
        except NginxRefusalError as error:
            return error
        return None

    def _files(self, told: Translation, names: Place) -> tuple[str, dict[str, bytes]]:
        """Return nginx's configuration and the certificates and keys that it takes."""
        from pytest_grpclb.clusters.embedded.ingress.configuration import FAKE_KEYPAIR
        from pytest_grpclb.clusters.embedded.ingress.fake import fake_keypair
        from pytest_grpclb.clusters.embedded.ingress.nginx_conf import nginx_conf

        self._fake = self._fake or fake_keypair(self._store.now()).pem
        text = nginx_conf(told.configuration, places=self._places, names=names, user=_user())
        return text, {**told.configuration.keypairs, FAKE_KEYPAIR: self._fake}

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

    def _publish(self, ingress: Object, *, served: bool = True) -> None:
        """Write the address that an Ingress can be reached at into its status."""
        address = self._places.http[0]
        ports = [
            {"port": place[1], "protocol": "TCP"}
            for place in (self._places.http, self._places.https)
        ]
        status = {"loadBalancer": {"ingress": [{"ip": address, "ports": ports}]} if served else {}}
        if ingress.get("status", {"loadBalancer": {}}) == status:
            return
        try:
            self._store.update_status(_INGRESSES, {**ingress, "status": status}, expect=None)
        except StatusError:
            return  # it is gone
        if not served:
            return
        namespace, name = ingress["metadata"]["namespace"], ingress["metadata"]["name"]
        self._recorder.normal(ingress, "Sync", f"Scheduled for sync: {namespace}/{name}")


_INGRESSES = "ingresses.networking.k8s.io"
_CLASSES = "ingressclasses.networking.k8s.io"


def _user() -> str:
    """Return whom workers run as: nginx makes them another user where it is started by root, and
    that one could not read below the cluster's directory.
    """
    return pwd.getpwuid(0).pw_name if os.geteuid() == 0 else ""
